"""Stale locks of workflows, left by workers that died during an update."""

from __future__ import annotations

import time
from contextlib import suppress
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from launchers.launchpad.jobs import CampaignLaunchPad

LOCK_SECONDS = 10.0
"""A lock held for longer is stale; an update takes less than a second."""

BUSY_LOCK_SECONDS = 60.0
"""The same while workers are running; finishing a slow update of a live worker repeats it."""

POLL_SECONDS = 1.0

WORKFLOW_FIELDS = {"name": 1, "nodes": 1, "parent_links": 1, "fw_states": 1, "updated_on": 1}


class Locks:
    """Detection and release of stale locks of a launchpad.

    FireWorks does not record which process locked a workflow, or when. A lock is stale if it was
    present in all scans for some time and its workflow did not change.
    """

    def __init__(self, launchpad: CampaignLaunchPad) -> None:
        self._launchpad = launchpad
        self._locked: dict[tuple[Any, str], tuple[float, dict[str, Any]]] = {}
        """Time of the first scan and workflow, by id and time of the last update."""

    def scan(self, query: Mapping[str, Any] | None = None) -> int:
        """Read the locked workflows that match, and return their number."""
        now = time.monotonic()
        locked = {"locked": {"$exists": True}, **(query or {})}
        before, self._locked = self._locked, {}
        for workflow in self._launchpad.workflows.find(locked, WORKFLOW_FIELDS):
            lock = workflow["_id"], str(workflow["updated_on"])
            since, _ = before.get(lock, (now, workflow))
            self._locked[lock] = since, workflow
        return len(self._locked)

    def stale(self, seconds: float) -> list[dict[str, Any]]:
        """Return the workflows whose lock is older than this."""
        now = time.monotonic()
        return [workflow for since, workflow in self._locked.values() if now - since >= seconds]

    def finish_stale(self, seconds: float) -> None:
        """Scan once, and finish the workflows whose lock is older than this."""
        self.scan()
        for workflow in self.stale(seconds):
            self.finish(workflow)

    def wait_for_stale(
        self, seconds: float, query: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Wait until each present lock is released or stale; return the workflows with stale locks.

        Locks that are set later are not waited for.
        """
        self.scan(query)
        initial = set(self._locked)
        deadline = time.monotonic() + seconds
        while initial & self._locked.keys() and time.monotonic() < deadline:
            time.sleep(min(POLL_SECONDS, seconds))
            self.scan(query)
        return self.stale(seconds)

    def finish(self, workflow: Mapping[str, Any]) -> None:
        """Release a stale lock and complete the interrupted update.

        Otherwise every later update waits five minutes for the lock.
        """
        self._reset_partial_completions(workflow)
        self._launchpad.workflows.update_one({"_id": workflow["_id"]}, {"$unset": {"locked": ""}})
        # The interrupted update may not have reached the children of a completed job.
        for fw_id in _parents_first(workflow):
            with suppress(RuntimeError):  # a job that cannot be imported here
                self._launchpad.refresh(fw_id)

    def _reset_partial_completions(self, workflow: Mapping[str, Any]) -> None:
        """Reset completed jobs that the workflow does not list as completed.

        FireWorks writes first the jobs that a job added, then the job, then the workflow. Added
        jobs without a workflow are deleted here because the reset job adds them again.
        """
        states = workflow.get("fw_states") or {}
        jobs = self._launchpad.fireworks
        completed = jobs.find(
            {"fw_id": {"$in": workflow["nodes"]}, "state": "COMPLETED"},
            {"fw_id": 1, "spec._tasks.job.hosts": 1},
        )
        for job in completed:
            previous = states.get(str(job["fw_id"]))
            if previous in (None, "COMPLETED"):
                continue
            tasks = job["spec"].get("_tasks") or [{}]
            hosts = (tasks[0].get("job") or {}).get("hosts") or []
            jobs.delete_many(
                {
                    "spec._tasks.job.hosts": {"$in": hosts[-1:]},
                    "fw_id": {"$not": {"$in": workflow["nodes"]}},
                    "state": {"$in": ["WAITING", "READY"]},
                }
            )
            jobs.update_one({"fw_id": job["fw_id"]}, {"$set": {"state": previous}})


def _parents_first(workflow: Mapping[str, Any]) -> list[int]:
    parents = {int(child): ids for child, ids in workflow["parent_links"].items()}
    return list(
        TopologicalSorter(
            {fw_id: parents.get(fw_id, ()) for fw_id in workflow["nodes"]}
        ).static_order()
    )
