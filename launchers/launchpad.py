"""The launchpad: queue units of work once, follow them, take up what was lost."""

from __future__ import annotations

import os
import socket
from collections import Counter
from typing import TYPE_CHECKING, Any

import psutil
from fireworks import FWorker, LaunchPad
from jobflow.managers.fireworks import flow_to_workflow
from pymongo import ReturnDocument

from gan_htvs.candidate import Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flows.campaign import Unit

WORKER_PREFIX = "gan-htvs"
PRIORITY = {Step.TRAIN: 2, Step.PROPOSE: 1}
"""Training is the longest wait of all, and sampling gives the other workers something to do."""
ACTIVE_STATES = ("READY", "RESERVED", "RUNNING")


class CampaignLaunchPad(LaunchPad):
    """FireWorks' LaunchPad with what a campaign asks of it.

    Jobs are addressed by their owners, the label ``campaign`` of :mod:`flows.steps`.

    Ids are drawn from the image after the increment. That is equivalent on MongoDB, and the only
    form that is atomic on SecantusDB.
    """

    def get_new_fw_id(self, quantity: int = 1) -> int:
        """Reserve ``quantity`` Firework ids and return the first."""
        return self._draw("next_fw_id", quantity)

    def get_new_launch_id(self) -> int:
        """Reserve a launch id."""
        return self._draw("next_launch_id", 1)

    def _draw(self, counter: str, quantity: int) -> int:
        document = self.fw_id_assigner.find_one_and_update(
            {}, {"$inc": {counter: quantity}}, return_document=ReturnDocument.AFTER
        )
        if document is None:
            raise ValueError("the launchpad was never initialised")
        return document[counter] - quantity

    def initialise(self) -> None:
        """Prepare an empty database; one in use is left as it is."""
        if self.fw_id_assigner.find_one() is None and self.workflows.find_one() is None:
            self.reset("", require_password=False, max_reset_wo_password=0)

    def submit(self, units: Iterable[Unit], campaign: str) -> int:
        """Queue the units that are not queued yet and return how many that were."""
        added = 0
        for unit in units:
            if self.workflows.find_one({"metadata.unit": unit.key}, {"_id": 1}):
                continue
            workflow = flow_to_workflow(
                unit.flow,
                store=None,  # a store given here would be copied, password and all, into the job
                allow_external_references=True,
                metadata={"unit": unit.key, "campaign": campaign},
            )
            for firework in workflow.fws:
                firework.spec["_priority"] = PRIORITY.get(firework.spec["step"], 0)
            self.add_wf(workflow)
            added += 1
        return added

    def states(self, owners: Sequence[str]) -> Counter[tuple[str, str]]:
        """Count jobs by step and state."""
        jobs = self.fireworks.find(_of(owners), {"spec.step": 1, "state": 1})
        return Counter((job["spec"]["step"], job["state"]) for job in jobs)

    def is_busy(self, owners: Sequence[str]) -> bool:
        """Whether any job is running or could be."""
        active = {"state": {"$in": list(ACTIVE_STATES)}}
        return self.fireworks.find_one(_of(owners) | active, {"_id": 1}) is not None

    def recover(self, owners: Sequence[str]) -> int:
        """Queue again what workers on this machine were running when they died."""
        running = self.fireworks.find(
            _of(owners) | {"state": "RUNNING"}, {"fw_id": 1, "launches": 1}
        )
        lost = [job["fw_id"] for job in running if self._worker_is_dead(job["launches"])]
        for fw_id in lost:
            # A worker that was killed in mid-update leaves the workflow locked.
            self.workflows.update_one({"nodes": fw_id}, {"$unset": {"locked": ""}})
            self.rerun_fw(fw_id)
        return len(lost)

    def retry(self, owners: Sequence[str]) -> int:
        """Queue failed jobs again."""
        fizzled = self.get_fw_ids(_of(owners) | {"state": "FIZZLED"})
        for fw_id in fizzled:
            self.rerun_fw(fw_id)
        return len(fizzled)

    def failures(self, owners: Sequence[str]) -> list[tuple[str, str]]:
        """Name and last line of the traceback of each job that raised."""
        found = []
        for job in self.fireworks.find(_of(owners) | {"state": "FIZZLED"}):
            launch = self.launches.find_one(
                {"launch_id": {"$in": job["launches"]}}, sort=[("launch_id", -1)]
            )
            found.append((job["name"], _last_line(launch)))
        return found

    def _worker_is_dead(self, launches: list[int]) -> bool:
        launch = self.launches.find_one(
            {"launch_id": {"$in": launches}}, {"fworker": 1}, sort=[("launch_id", -1)]
        )
        name = ((launch or {}).get("fworker") or {}).get("name", "")
        prefix, _, pid = name.rpartition(":")
        return prefix == f"{WORKER_PREFIX}@{socket.gethostname()}" and not psutil.pid_exists(
            int(pid)
        )


def worker_of(owners: Sequence[str]) -> FWorker:
    """Describe this process to FireWorks: it takes the jobs of these owners and no other."""
    name = f"{WORKER_PREFIX}@{socket.gethostname()}:{os.getpid()}"
    return FWorker(name=name, query=_of(owners))


def _of(owners: Sequence[str]) -> dict[str, Any]:
    return {"spec.campaign": {"$in": list(owners)}}


def _last_line(launch: dict[str, Any] | None) -> str:
    action = (launch or {}).get("action") or {}
    trace = action.get("stored_data", {}).get("_exception", {}).get("_stacktrace", "")
    lines = trace.strip().splitlines()
    return lines[-1] if lines else "no traceback was left"
