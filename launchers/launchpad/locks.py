"""Locks of workflows whose worker died in the middle of an update."""

from __future__ import annotations

import time
from contextlib import suppress
from graphlib import TopologicalSorter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from launchers.launchpad.jobs import CampaignLaunchPad

LOCK_SECONDS = 10.0
"""A workflow is locked for as long as one update takes, well below a second."""

BUSY_LOCK_SECONDS = 60.0
"""The same while workers are at it: a slow update that is taken for dead is made twice."""

POLL_SECONDS = 1.0

WORKFLOW_FIELDS = {"name": 1, "nodes": 1, "parent_links": 1, "fw_states": 1, "updated_on": 1}


class Locks:
    """The locks of a launchpad, watched for those that will never be released.

    FireWorks does not write down who locked a workflow, or when. A lock counts as abandoned if
    this object has seen it for long enough, and the workflow unchanged.
    """

    def __init__(self, launchpad: CampaignLaunchPad) -> None:
        self._launchpad = launchpad
        self._seen: dict[tuple[Any, str], tuple[float, dict[str, Any]]] = {}
        """Since when, and which workflow, by its id and state."""

    def look(self, query: Mapping[str, Any] = MappingProxyType({})) -> int:
        """Look once at the workflows that match, and return how many of them are locked."""
        now = time.monotonic()
        locked = {"locked": {"$exists": True}, **query}
        before, self._seen = self._seen, {}
        for workflow in self._launchpad.workflows.find(locked, WORKFLOW_FIELDS):
            lock = workflow["_id"], str(workflow["updated_on"])
            since, _ = before.get(lock, (now, workflow))
            self._seen[lock] = since, workflow
        return len(self._seen)

    def abandoned(self, seconds: float) -> list[dict[str, Any]]:
        """List the workflows that were seen locked for so long."""
        now = time.monotonic()
        return [workflow for since, workflow in self._seen.values() if now - since >= seconds]

    def finish_stale(self, seconds: float) -> None:
        """Look once, and finish what was seen locked for so long."""
        self.look()
        for workflow in self.abandoned(seconds):
            self.finish(workflow)

    def settle(
        self, seconds: float, query: Mapping[str, Any] = MappingProxyType({})
    ) -> list[dict[str, Any]]:
        """Wait until the locks of now are released or abandoned; list the workflows of the latter.

        Others may lock and release for as long as they work.
        """
        self.look(query)
        now = set(self._seen)
        deadline = time.monotonic() + seconds
        while now & self._seen.keys() and time.monotonic() < deadline:
            time.sleep(min(POLL_SECONDS, seconds))
            self.look(query)
        return self.abandoned(seconds)

    def finish(self, workflow: Mapping[str, Any]) -> None:
        """Release an abandoned lock, and bring the update behind it to its end.

        Without that, every later update waits five minutes for the lock.
        """
        self._reset_partial_completions(workflow)
        self._launchpad.workflows.update_one({"_id": workflow["_id"]}, {"$unset": {"locked": ""}})
        # Children may not know yet that a parent is done.
        for fw_id in _parents_first(workflow):
            with suppress(RuntimeError):  # a job that cannot be imported here
                self._launchpad.refresh(fw_id)

    def _reset_partial_completions(self, workflow: Mapping[str, Any]) -> None:
        """Reset jobs whose end is in their own document only, so that it is written again.

        FireWorks writes the jobs that a job added, then the job, then the workflow. Added jobs that
        are in no workflow would never be finished, and the job would not add them again.
        """
        states = workflow.get("fw_states") or {}
        jobs = self._launchpad.fireworks
        ended = jobs.find(
            {"fw_id": {"$in": workflow["nodes"]}, "state": "COMPLETED"},
            {"fw_id": 1, "spec._tasks.job.hosts": 1},
        )
        for job in ended:
            before = states.get(str(job["fw_id"]))
            if before in (None, "COMPLETED"):
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
            jobs.update_one({"fw_id": job["fw_id"]}, {"$set": {"state": before}})


def _parents_first(workflow: Mapping[str, Any]) -> list[int]:
    parents = {int(child): ids for child, ids in workflow["parent_links"].items()}
    return list(
        TopologicalSorter(
            {fw_id: parents.get(fw_id, ()) for fw_id in workflow["nodes"]}
        ).static_order()
    )
