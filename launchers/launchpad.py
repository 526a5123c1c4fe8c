"""The launchpad: queue units of work once, follow them, take up what was lost."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from contextlib import contextmanager, redirect_stderr, suppress
from datetime import UTC, datetime, timedelta
from graphlib import TopologicalSorter
from io import StringIO
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import psutil
from fireworks import FWorker, LaunchPad, Workflow
from jobflow.managers.fireworks import flow_to_workflow
from pymongo import ReturnDocument
from pymongo.errors import PyMongoError

from gan_htvs.candidate import Step
from launchers.release import release
from launchers.workers import describe, this_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pymongo.collection import Collection

    from flows.campaign import Unit
    from gan_htvs.campaign import Campaign


WORKER_PREFIX = "gan-htvs"
BATCH = 50
"""Workflows that are added in one go."""

LEASE = timedelta(seconds=120)
"""A feeder that has not been heard of for so long is dead; adding a batch takes a second."""

LEASE_POLL_SECONDS = 0.2

ACTIVE_STATES = ("READY", "RESERVED", "RUNNING")
CHECKOUT_SECONDS = 30.0
"""A worker takes a job in milliseconds; one that has been at it for longer is dead."""

LOCK_SECONDS = 10.0
"""A workflow is locked for as long as one update takes, well below a second."""

_EPOCH = datetime.fromtimestamp(0, UTC)

LAUNCH_PREFIX = "launcher_"
"""Begins the names of the folders that FireWorks makes, one for each launch."""

BUSY_LOCK_SECONDS = 60.0
"""The same while workers are at it: a slow update that is taken for dead is made twice."""


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

    _locked_since: Mapping[Any, float] = MappingProxyType({})

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

    def submit(
        self,
        units: Iterable[Unit],
        campaign: Campaign,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Queue the units that are not queued yet, and return how many that were.

        Parameters
        ----------
        units
            Asked for, and forgotten, a batch at a time, while nobody else feeds this launchpad.
        campaign
            Whose units they are.
        on_progress
            Called with the number of units queued so far.
        """
        added = 0
        with self._sole_feeder() as note_down:
            several = iter(units)
            while batch := list(islice(several, BATCH)):
                queued = self.queued(unit.key for unit in batch)
                new = {unit.key: unit for unit in batch if unit.key not in queued}
                if new:
                    note_down(list(new))
                    with redirect_stderr(StringIO()):  # a bar for every batch
                        self.bulk_add_wfs([_workflow(unit, campaign) for unit in new.values()])
                added += len(new)
                on_progress(added)
        return added

    def queued(self, keys: Iterable[str]) -> set[str]:
        """Find which of these units are on the launchpad, whatever their state."""
        query = {"metadata.unit": {"$in": list(keys)}}
        return {
            workflow["metadata"]["unit"]
            for workflow in self.workflows.find(query, {"metadata.unit": 1})
        }

    def n_open_shards(self, campaign: str) -> int:
        """Count the shards on the launchpad that have not come to their end."""
        unended = {"state": {"$in": ["WAITING", "READY", "RESERVED"]}}
        return self.fireworks.count_documents(
            {"spec.campaign": campaign, "spec.step": Step.RELEASE.value} | unended
        )

    @contextmanager
    def _sole_feeder(self) -> Iterator[Callable[[list[str]], None]]:
        """Let nobody else feed this launchpad meanwhile, on whatever machine.

        Gives a function that is called with the units of each batch before they are added: from
        its notes the next feeder takes away what one that was killed had added by halves.
        """
        leases = self.db["feeders"]
        lease = {"_id": "lease"}
        leases.update_one(lease, {"$setOnInsert": {"until": _EPOCH}}, upsert=True)
        mine = lease | {"holder": uuid4().hex}
        while True:
            now = datetime.now(UTC)
            leases.update_one(
                lease | {"until": {"$lt": now}}, {"$set": mine | {"until": now + LEASE}}
            )
            if taken := leases.find_one(mine):
                break
            time.sleep(LEASE_POLL_SECONDS)
        self._take_halves_away(taken.get("adding", []))

        def note_down(keys: list[str]) -> None:
            until = datetime.now(UTC) + LEASE
            leases.update_one(mine, {"$set": {"adding": keys, "until": until}})

        try:
            yield note_down
        except BaseException:
            with suppress(PyMongoError):
                leases.update_one(mine, {"$set": {"until": _EPOCH}})
            raise
        leases.update_one(mine, {"$set": {"adding": [], "until": _EPOCH}})

    def _take_halves_away(self, keys: Sequence[str]) -> None:
        """Delete workflows some of whose Fireworks were never written; they are added again."""
        query = {"metadata.unit": {"$in": list(keys)}}
        for workflow in self.workflows.find(query, {"nodes": 1}) if keys else ():
            nodes = {"fw_id": {"$in": workflow["nodes"]}}
            if self.fireworks.count_documents(nodes) < len(workflow["nodes"]):
                self.fireworks.delete_many(nodes)
                self.workflows.delete_one({"_id": workflow["_id"]})

    def states(self, owners: Sequence[str]) -> Counter[tuple[str, str]]:
        """Count jobs by step and state."""
        jobs = self.fireworks.find(_of(owners), {"spec.step": 1, "state": 1})
        return Counter((job["spec"]["step"], job["state"]) for job in jobs)

    def is_busy(self, owners: Sequence[str]) -> bool:
        """Whether any job is running or could be."""
        active = {"state": {"$in": list(ACTIVE_STATES)}}
        return self.fireworks.find_one(_of(owners) | active, {"_id": 1}) is not None

    def lost(self, owners: Sequence[str], *, all_workers_here: bool = False) -> list[int]:
        """Find the Fireworks that workers on this machine were running when they died.

        Parameters
        ----------
        owners
            Whose jobs.
        all_workers_here
            No other machine can reach this database, so a worker that is not found is dead even
            if this machine had another name when it started.
        """
        running = self.fireworks.find(
            _of(owners) | {"state": "RUNNING"}, {"fw_id": 1, "launches": 1}
        )
        found = []
        for job in running:
            worker = self._worker_name(job["launches"])
            if (all_workers_here or _is_here(worker)) and not _is_alive(worker):
                found.append(job["fw_id"])
        return found

    def half_taken(self, owners: Sequence[str], seconds: float = CHECKOUT_SECONDS) -> list[int]:
        """Find the Fireworks whose workers died between taking a job and putting their name on it.

        They are reserved, but no launch belongs to the reservation, as one does with
        ``qlaunch --reserve``.
        """
        reserved = self.fireworks.find(
            _of(owners) | {"state": "RESERVED"}, {"fw_id": 1, "launches": 1, "updated_on": 1}
        )
        latest = datetime.now(UTC) - timedelta(seconds=seconds)
        return [
            job["fw_id"]
            for job in reserved
            if not job["launches"] and moment(job["updated_on"]) < latest
        ]

    def unlock_abandoned(self, seconds: float = LOCK_SECONDS) -> int:
        """Finish the updates of workflows whose workers died in the middle of one.

        Everybody else would wait five minutes for the lock, at every update. A workflow counts as
        abandoned if this object has seen it locked for so long.

        Returns
        -------
        Number of workflows that are still locked.
        """
        now = time.monotonic()
        fields = {"nodes": 1, "parent_links": 1}
        locked = {
            workflow["_id"]: workflow
            for workflow in self.workflows.find({"locked": {"$exists": True}}, fields)
        }
        self._locked_since = {each: self._locked_since.get(each, now) for each in locked}
        abandoned = [each for each, since in self._locked_since.items() if now - since >= seconds]
        for workflow in abandoned:
            self.workflows.update_one({"_id": workflow}, {"$unset": {"locked": ""}})
            # Children may not know yet that a parent is done.
            for fw_id in _parents_first(locked[workflow]):
                self._refresh_wf(fw_id)
        return len(locked) - len(abandoned)

    def requeue(self, fw_id: int) -> None:
        """Queue a lost job again."""
        self._end_orphans(fw_id)
        self._unlock(fw_id)
        self.rerun_fw(fw_id)

    def give_up(self, fw_id: int) -> None:
        """Mark a lost job as failed, so that others can go on."""
        self._unlock(fw_id)
        job = self.fireworks.find_one({"fw_id": fw_id}, {"launches": 1})
        self.mark_fizzled(max(job["launches"]))

    def _end_orphans(self, fw_id: int) -> None:
        """Kill what a dead worker left running in the folders of its job, never by name."""
        launches = self.launches.find({"fw_id": fw_id}, {"launch_dir": 1})
        folders = {
            launch["launch_dir"]
            for launch in launches
            if Path(launch["launch_dir"]).name.startswith(LAUNCH_PREFIX)
        }
        for process in psutil.process_iter(["cwd"]):
            if process.info["cwd"] in folders:
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def _unlock(self, fw_id: int) -> None:
        # A worker that was killed in mid-update leaves the workflow locked.
        self.workflows.update_one({"nodes": fw_id}, {"$unset": {"locked": ""}})

    def retry(self, owners: Sequence[str], steps: Iterable[Step]) -> int:
        """Queue failed jobs of some steps again."""
        failed = {"state": "FIZZLED", "spec.step": {"$in": [step.value for step in steps]}}
        fizzled = self.get_fw_ids(_of(owners) | failed)
        for fw_id in fizzled:
            self.rerun_fw(fw_id)
        return len(fizzled)

    def workers_elsewhere(self, owners: Sequence[str]) -> list[str]:
        """Names of the workers on other machines that are running jobs."""
        running = self.fireworks.find(_of(owners) | {"state": "RUNNING"}, {"launches": 1})
        names = {self._worker_name(job["launches"]) for job in running}
        return sorted(name for name in names if not _is_here(name))

    def failures(self, owners: Sequence[str]) -> list[Failure]:
        """List the jobs that raised."""
        found = []
        for job in self.fireworks.find(_of(owners) | {"state": "FIZZLED"}):
            trace = self._trace(job["launches"])
            found.append(Failure(job["name"], Step(job["spec"]["step"]), trace))
        return found

    def calculations(
        self, owners: Sequence[str], steps: Iterable[Step], candidates: Sequence[str] | None = None
    ) -> list[Calculation]:
        """List the jobs of some steps that have ended, for each uuid the last one queued.

        Only those of some candidates, if these are given by their ids.
        """
        ended = {} if candidates is None else {"spec.candidate_id": {"$in": list(candidates)}}
        ended |= {
            "state": {"$in": ["COMPLETED", "FIZZLED"]},
            "spec.step": {"$in": [step.value for step in steps]},
        }
        fields = {"fw_id": 1, "name": 1, "state": 1, "launches": 1}
        fields |= {"spec.candidate_id": 1, "spec.step": 1, "spec._tasks.job.uuid": 1}
        found = {}
        for job in self.fireworks.find(_of(owners) | ended, fields).sort("fw_id", 1):
            uuid = job["spec"]["_tasks"][0]["job"]["uuid"]
            found[uuid] = Calculation(
                job["fw_id"],
                uuid,
                job["name"],
                job["state"],
                job["spec"].get("candidate_id", ""),
                Step(job["spec"]["step"]),
                self._trace(job["launches"]) if job["state"] == "FIZZLED" else "",
            )
        return list(found.values())

    def _trace(self, launches: list[int]) -> str:
        launch = self.launches.find_one({"launch_id": {"$in": launches}}, sort=[("launch_id", -1)])
        return last_line(launch)

    def _worker_name(self, launches: list[int]) -> str:
        launch = self.launches.find_one(
            {"launch_id": {"$in": launches}}, {"fworker": 1}, sort=[("launch_id", -1)]
        )
        return ((launch or {}).get("fworker") or {}).get("name", "")


def _workflow(unit: Unit, campaign: Campaign) -> Workflow:
    """Make the workflow of a unit, with the release of what waits for it at its end."""
    metadata = {"unit": unit.key, "campaign": campaign.name}
    workflow = flow_to_workflow(
        unit.flow,
        store=None,  # a store given here would be copied, password and all, into the job
        allow_external_references=True,
        metadata=metadata,
    )
    if unit.frees is None:
        return workflow
    leaves = [workflow.id_fw[fw_id] for fw_id in workflow.leaf_fw_ids]
    last = release(unit.frees, campaign.routing.other, leaves)
    return Workflow([*workflow.fws, last], name=workflow.name, metadata=metadata)


def worker_name() -> str:
    """Name this process so that others can tell whether it is alive."""
    started = int(psutil.Process().create_time())
    return f"{WORKER_PREFIX}@{socket.gethostname()}:{os.getpid()}:{started}"


def worker_of(owners: Sequence[str]) -> FWorker:
    """Describe this process to FireWorks: it takes the jobs of these owners and no other."""
    worker = this_worker()
    fworker = FWorker(name=f"gan-htvs@{worker.host}", query=_of(owners))
    describe(fworker, worker)
    return fworker


def _is_here(worker: str) -> bool:
    return worker.startswith(f"{WORKER_PREFIX}@{socket.gethostname()}:")


def _is_alive(worker: str) -> bool:
    """Find the process that a worker's name tells of; a recycled pid started at another time."""
    try:
        _, pid, started = worker.rsplit(":", 2)
        return abs(psutil.Process(int(pid)).create_time() - int(started)) <= 1
    except (ValueError, psutil.NoSuchProcess):
        return False


def _parents_first(workflow: dict[str, Any]) -> list[int]:
    parents = {int(child): ids for child, ids in workflow["parent_links"].items()}
    return list(
        TopologicalSorter(
            {fw_id: parents.get(fw_id, ()) for fw_id in workflow["nodes"]}
        ).static_order()
    )


def moment(written: datetime | str) -> datetime:
    """Read a time of FireWorks: UTC, as BSON date or as text, depending on who wrote it."""
    moment = datetime.fromisoformat(written) if isinstance(written, str) else written
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _of(owners: Sequence[str]) -> dict[str, Any]:
    return {"spec.campaign": {"$in": list(owners)}}


def last_line(launch: dict[str, Any] | None) -> str:
    """Read what a launch raised: the last line of its traceback."""
    action = (launch or {}).get("action") or {}
    trace = action.get("stored_data", {}).get("_exception", {}).get("_stacktrace", "")
    lines = trace.strip().splitlines()
    return lines[-1] if lines else "no traceback was left"
