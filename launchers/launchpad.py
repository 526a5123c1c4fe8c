"""The launchpad: queue units of work once, follow them, take up what was lost."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from fireworks import FWorker, LaunchPad
from jobflow.managers.fireworks import flow_to_workflow
from pymongo import ReturnDocument

from gan_htvs.candidate import Step
from launchers.workers import describe, this_worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pymongo.collection import Collection

    from flows.campaign import Unit

PRIORITY = {Step.TRAIN: 2, Step.PROPOSE: 1}
"""Training is the longest wait of all, and sampling gives the other workers something to do."""
ACTIVE_STATES = ("READY", "RESERVED", "RUNNING")


class Failure(NamedTuple):
    """A job that raised."""

    name: str
    step: Step
    trace: str
    """Last line of the traceback."""


class Calculation(NamedTuple):
    """The job of one calculation of one structure."""

    fw_id: int
    uuid: str
    name: str
    state: str
    owner: str
    candidate_id: str
    step: Step
    trace: str
    """Last line of the traceback, if it raised."""


class _Counters:
    """The collection that FireWorks draws its ids from, atomic on every server.

    FireWorks asks for the image before an increment, which two clients of SecantusDB may share.
    The image after it is atomic, and tells the same.
    """

    def __init__(self, collection: Collection[dict[str, Any]]) -> None:
        self._collection = collection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    def find_one_and_update(
        self, query: dict[str, Any], update: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Increment counters and tell what they were before."""
        after = self._collection.find_one_and_update(
            query, update, return_document=ReturnDocument.AFTER
        )
        if after is None:
            return None
        return after | {name: after[name] - by for name, by in update["$inc"].items()}


class CampaignLaunchPad(LaunchPad):
    """FireWorks' LaunchPad with what a campaign asks of it.

    Jobs are addressed by their owners, the label ``campaign`` of :mod:`flows.steps`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fw_id_assigner = _Counters(self.db.fw_id_assigner)

    def initialise(self) -> None:
        """Prepare an empty database; one in use is left as it is, whoever comes first."""
        fresh = self.fw_id_assigner.update_one(
            {"_id": -1}, {"$setOnInsert": {"next_fw_id": 1, "next_launch_id": 1}}, upsert=True
        )
        if fresh.upserted_id is not None:
            self.tuneup()

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

    def jobs(
        self, owners: Sequence[str] | None, states: Sequence[str], **query: Any
    ) -> list[dict[str, Any]]:
        """Find the jobs of some owners, None for all, that are in one of these states.

        They come without what they run.
        """
        wanted = {"state": {"$in": list(states)}, **query} | (_of(owners) if owners else {})
        return list(self.fireworks.find(wanted, {"spec._tasks": 0}))

    def last_launches(self, jobs: Iterable[dict[str, Any]]) -> dict[int, dict[str, Any]]:
        """Find the last launch of each job, by the id of the job; one without has none."""
        last = {max(job["launches"]): job["fw_id"] for job in jobs if job["launches"]}
        found = self.launches.find({"launch_id": {"$in": list(last)}})
        return {last[launch["launch_id"]]: launch for launch in found}

    def refresh(self, fw_id: int) -> None:
        """Have a workflow know what the launches of one of its jobs tell."""
        self._refresh_wf(fw_id)

    def retry(self, owners: Sequence[str], steps: Iterable[Step]) -> int:
        """Queue failed jobs of some steps again."""
        failed = {"state": "FIZZLED", "spec.step": {"$in": [step.value for step in steps]}}
        fizzled = self.get_fw_ids(_of(owners) | failed)
        for fw_id in fizzled:
            self.rerun_fw(fw_id)
        return len(fizzled)

    def failures(self, owners: Sequence[str]) -> list[Failure]:
        """List the jobs that raised."""
        found = []
        for job in self.fireworks.find(_of(owners) | {"state": "FIZZLED"}):
            trace = self._trace(job["launches"])
            found.append(Failure(job["name"], Step(job["spec"]["step"]), trace))
        return found

    def calculations(self, owners: Sequence[str], steps: Iterable[Step]) -> list[Calculation]:
        """List the jobs of some steps that have ended, for each uuid the last one queued."""
        ended = {
            "state": {"$in": ["COMPLETED", "FIZZLED"]},
            "spec.step": {"$in": [step.value for step in steps]},
        }
        fields = {"fw_id": 1, "name": 1, "state": 1, "launches": 1, "spec.campaign": 1}
        fields |= {"spec.candidate_id": 1, "spec.step": 1, "spec._tasks.job.uuid": 1}
        found = {}
        for job in self.fireworks.find(_of(owners) | ended, fields).sort("fw_id", 1):
            uuid = job["spec"]["_tasks"][0]["job"]["uuid"]
            found[uuid] = Calculation(
                job["fw_id"],
                uuid,
                job["name"],
                job["state"],
                job["spec"]["campaign"],
                job["spec"].get("candidate_id", ""),
                Step(job["spec"]["step"]),
                self._trace(job["launches"]) if job["state"] == "FIZZLED" else "",
            )
        return list(found.values())

    def _trace(self, launches: list[int]) -> str:
        launch = self.launches.find_one({"launch_id": {"$in": launches}}, sort=[("launch_id", -1)])
        return _last_line(launch)


def worker_of(owners: Sequence[str]) -> FWorker:
    """Describe this process to FireWorks: it takes the jobs of these owners and no other."""
    worker = this_worker()
    fworker = FWorker(name=f"gan-htvs@{worker.host}", query=_of(owners))
    describe(fworker, worker)
    return fworker


def moment(written: datetime | str) -> datetime:
    """Read a time of FireWorks: UTC, as BSON date or as text, depending on who wrote it."""
    moment = datetime.fromisoformat(written) if isinstance(written, str) else written
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _of(owners: Sequence[str]) -> dict[str, Any]:
    return {"spec.campaign": {"$in": list(owners)}}


def _last_line(launch: dict[str, Any] | None) -> str:
    action = (launch or {}).get("action") or {}
    trace = action.get("stored_data", {}).get("_exception", {}).get("_stacktrace", "")
    lines = trace.strip().splitlines()
    return lines[-1] if lines else "no traceback was left"
