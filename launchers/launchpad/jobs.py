"""The launchpad: queueing of workflows and state of their jobs."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from operator import itemgetter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import networkx as nx
from fireworks import FWorker, LaunchPad, Workflow
from fireworks.core.launchpad import WFLock
from pydantic import AliasPath, BaseModel, ConfigDict, Field
from pymongo import ReturnDocument
from pymongo.errors import PyMongoError

from gan_htvs.core.errors import UserError
from gan_htvs.core.stages import Step
from launchers.launchpad.batch_system import BatchQueue
from launchers.launchpad.workers import (
    Liveness,
    Worker,
    attach_worker,
    this_worker,
    worker_of_launch,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from pymongo.collection import Collection as MongoCollection


LEASE = timedelta(seconds=120)
"""Time after which the lease of a feeder expires; each batch, about a second, renews it.

A feeder on this machine also loses its lease when its process has ended."""

LEASE_POLL_SECONDS = 0.2

POLLS_UNTIL_WARNING = 25
"""Number of polls after which a process that waits for another feeder logs a warning."""

ACTIVE_STATES = ("READY", "RESERVED", "RUNNING")
HELD_STATES = {
    "PAUSED": "gan-htvs lpad resume_fws -s PAUSED",
    "DEFUSED": "gan-htvs lpad reignite_fws -s DEFUSED",
}
"""States of jobs that a user held back, and the command that releases them."""

ENDED_STATES = ("COMPLETED", "ARCHIVED", "FIZZLED", "DEFUSED")

AFTER_GATES = tuple(map(str, (Step.HYBRID, Step.BAND_GAP, Step.PROPERTY, Step.GATE)))
"""Steps of the jobs that a gate queues: a property and the verdict that includes it."""

UUID = "spec._tasks.job.uuid"
"""Field of a Firework with the uuid of its job."""

_EPOCH = datetime.fromtimestamp(0, UTC)
_JOB_FIELDS = [
    *("fw_id", "name", "state", "updated_on", "launches", "archived_launches", UUID),
    *("spec.campaign", "spec.step", "spec.candidate_id", "spec._exception_details"),
    "spec._losses",
]
_LAUNCH_FIELDS = [
    *("launch_id", "fw_id", "state", "state_history", "time_start", "host", "launch_dir"),
    *("fworker", "action.stored_data"),
]


class QueuedJob(BaseModel):
    """A job on the launchpad and its last launch, without its tasks."""

    model_config = ConfigDict(frozen=True)

    fw_id: int
    name: str
    state: str
    updated_on: datetime | str
    archived_launches: list[int] = []
    step: str = Field("", validation_alias=AliasPath("spec", "step"))
    owner: str = Field("", validation_alias=AliasPath("spec", "campaign"))
    """Name of the campaign, or uuid of a shared job."""
    candidate_id: str = Field("", validation_alias=AliasPath("spec", "candidate_id"))
    uuid: str | None = Field(None, validation_alias=AliasPath("spec", "_tasks", 0, "job", "uuid"))
    losses: int = Field(0, validation_alias=AliasPath("spec", "_losses"))
    """Number of runs that were lost, perhaps because of the job."""
    load_error: dict[str, Any] = Field({}, validation_alias=AliasPath("spec", "_exception_details"))
    """Exception of a job that FireWorks could not load."""
    launch: dict[str, Any] | None
    """Document of the last launch; None if the job was never launched."""

    @property
    def launch_id(self) -> int | None:
        """Id of the last launch."""
        return self.launch["launch_id"] if self.launch else None

    @property
    def worker(self) -> Worker | None:
        """Worker of the last launch; None for a worker of FireWorks' own commands."""
        return worker_of_launch(self.launch)

    @property
    def folder(self) -> str | None:
        """``host:path`` of the last launch."""
        return f"{self.launch['host']}:{self.launch['launch_dir']}" if self.launch else None

    @property
    def error(self) -> str:
        """Last line of the traceback of a job that raised or could not be loaded."""
        details = self.load_error
        if self.launch:
            action = self.launch.get("action") or {}
            details = action.get("stored_data", {}).get("_exception", {})
        lines = details.get("_stacktrace", "").strip().splitlines()
        return lines[-1] if lines else "no traceback stored"


class _Counters:
    """Collection of FireWorks' id counters with increments that are atomic on every server.

    FireWorks reads the document before an increment; in SecantusDB two clients may read the same
    value. The document after the increment is atomic and contains the same information.
    """

    def __init__(self, collection: MongoCollection[dict[str, Any]]) -> None:
        self._collection = collection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    def find_one_and_update(
        self, query: dict[str, Any], update: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Increment counters and return their previous values."""
        after = self._collection.find_one_and_update(
            query, update, return_document=ReturnDocument.AFTER
        )
        if after is None:
            return None
        return after | {name: after[name] - by for name, by in update["$inc"].items()}


class CampaignLaunchPad(LaunchPad):
    """FireWorks' LaunchPad with the queries of a campaign.

    An owner is the label ``campaign`` of a job, see :mod:`flows.routing`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fw_id_assigner = _Counters(self.db.fw_id_assigner)

    def __repr__(self) -> str:
        """Return the address; FireWorks would show all settings, including a password."""
        return f"{type(self).__name__}({self.name!r} at {self.host})"

    def initialize(self) -> None:
        """Initialize an empty database; do not change one that is in use."""
        update = self.fw_id_assigner.update_one(
            {"_id": -1}, {"$setOnInsert": {"next_fw_id": 1, "next_launch_id": 1}}, upsert=True
        )
        if update.upserted_id is not None:
            self.tuneup()

    def queued(self, keys: Iterable[str]) -> set[str]:
        """Return the keys of those units that are on the launchpad and not archived."""
        units = {"metadata.unit": {"$in": list(keys)}, "state": {"$ne": "ARCHIVED"}}
        return set(self.workflows.distinct("metadata.unit", units))

    def n_open_workflows(self, campaign: str) -> int:
        """Count the unfinished workflows of compositions and candidates."""
        unfinished = {"state": {"$in": ["WAITING", "READY", "RESERVED"]}}
        return self.fireworks.count_documents(
            {"spec.campaign": campaign, "spec.step": Step.RELEASE.value} | unfinished
        )

    def candidates(self, campaign: str, *, except_states: Sequence[str]) -> list[str]:
        """Return the ids of candidates with a gate job that is in none of these states."""
        gates = {"spec.campaign": campaign, "spec.step": Step.GATE.value}
        others = {"state": {"$nin": list(except_states)}}
        return self.fireworks.distinct("spec.candidate_id", gates | others)

    @contextmanager
    def sole_feeder(self) -> Iterator[Callable[[list[str]], None]]:
        """Exclude all other processes that feed this launchpad, on any machine.

        Yield a function that must be called with the keys of each batch before they are added. From
        this record the next feeder deletes incomplete workflows of a feeder that was killed.
        """
        leases = self.db["feeders"]
        lease = {"_id": "lease"}
        unused: dict[str, Any] = {"holder": "", "until": _EPOCH, "adding": []}
        leases.update_one(lease, {"$setOnInsert": unused}, upsert=True)
        mine = lease | {"holder": uuid4().hex}
        worker = this_worker().model_dump(mode="json", exclude={"versions"})
        for n_polls in count():
            previous = leases.find_one(lease) or unused
            now = datetime.now(UTC)
            if as_utc(previous["until"]) < now or _has_ended(previous["worker"]):
                taken = leases.update_one(
                    lease | {"holder": previous["holder"]},
                    {"$set": mine | {"worker": worker, "until": now + LEASE}},
                )
                if taken.modified_count:
                    break
            if n_polls == POLLS_UNTIL_WARNING:
                self.m_logger.warning("another process queues workflows; waiting for it")
            time.sleep(LEASE_POLL_SECONDS)
        self._delete_incomplete(previous["adding"])

        def record(keys: list[str]) -> None:
            renewal = {"adding": keys, "until": datetime.now(UTC) + LEASE}
            if not leases.update_one(mine, {"$set": renewal}).matched_count:
                raise UserError(
                    "queueing took so long that another process took over; run the same command "
                    "again to continue."
                )

        try:
            yield record
            leases.update_one(mine, {"$set": {"adding": []}})
        finally:
            with suppress(PyMongoError):
                leases.update_one(mine, {"$set": {"until": _EPOCH}})

    def _delete_incomplete(self, keys: Sequence[str]) -> None:
        """Delete workflows with missing Fireworks; they are added again."""
        query = {"metadata.unit": {"$in": list(keys)}}
        for workflow in self.workflows.find(query, {"nodes": 1}) if keys else ():
            nodes = {"fw_id": {"$in": workflow["nodes"]}}
            if self.fireworks.count_documents(nodes) < len(workflow["nodes"]):
                self.fireworks.delete_many(nodes)
                self.workflows.delete_one({"_id": workflow["_id"]})

    def states(self, owners: Sequence[str]) -> Counter[tuple[str, str]]:
        """Count jobs by step and state."""
        jobs = self.fireworks.find(owned_by(owners), {"spec.step": 1, "state": 1})
        return Counter((job["spec"]["step"], job["state"]) for job in jobs)

    def is_busy(self, owners: Sequence[str]) -> bool:
        """Return whether any job is running or can run."""
        return any(state in ACTIVE_STATES for _, state in self.states(owners))

    def jobs(
        self,
        owners: Sequence[str] | None = None,
        *,
        states: Collection[str] = (),
        steps: Collection[str] = (),
        query: Mapping[str, Any] | None = None,
    ) -> list[QueuedJob]:
        """Return jobs with their last launches, ordered by id.

        Parameters
        ----------
        owners
            Owners of the jobs; None: any.
        states
            States of the Fireworks; empty: any.
        steps
            Steps of the jobs; empty: any.
        query
            Further conditions on the Fireworks.
        """
        criteria = dict(query or {})
        criteria |= owned_by(owners) if owners is not None else {}
        criteria |= {"state": {"$in": list(states)}} if states else {}
        criteria |= {"spec.step": {"$in": list(steps)}} if steps else {}
        documents = sorted(self.fireworks.find(criteria, _JOB_FIELDS), key=itemgetter("fw_id"))
        last = [max(document["launches"], default=None) for document in documents]
        cursor = self.launches.find({"launch_id": {"$in": last}}, _LAUNCH_FIELDS)
        launches = {launch["launch_id"]: launch for launch in cursor}
        return [
            QueuedJob.model_validate(document | {"launch": launches.get(launch_id)})
            for document, launch_id in zip(documents, last, strict=True)
        ]

    def refresh(self, fw_id: int) -> None:
        """Update a workflow with the launches of one of its jobs."""
        self._refresh_wf(fw_id)

    def rerun_fw(self, fw_id: int, *args: Any, **kwargs: Any) -> list[int]:
        """Queue a job and all jobs that depend on it again.

        Band-gap jobs that were added by dependent gates are deleted first, because each gate adds
        a new one when it runs again, and the old one would store an outdated verdict.
        """
        with WFLock(self, fw_id):
            workflow = self.get_wf_by_fw_id_lzyfw(fw_id)
            graph = nx.DiGraph(dict(workflow.links))
            if gaps := self._gaps_after(fw_id, graph):
                graph.remove_nodes_from(gaps)
                workflow.links = Workflow.Links(nx.to_dict_of_lists(graph))
                for gap in gaps:
                    del workflow.id_fw[gap], workflow.fw_states[gap]
                updated = workflow.to_db_dict() | {"locked": True}
                self.workflows.replace_one({"nodes": fw_id}, updated)
                self.fireworks.delete_many({"fw_id": {"$in": gaps}})
        return list(super().rerun_fw(fw_id, *args, **kwargs))

    def _gaps_after(self, fw_id: int, graph: nx.DiGraph[int]) -> list[int]:
        """Return the jobs added by gates that depend on a job, or by the job itself."""
        dependent = {fw_id, *nx.descendants(graph, fw_id)}
        jobs = self.fireworks.find(
            {"fw_id": {"$in": sorted(dependent)}}, {"fw_id": 1, "spec.step": 1}
        )
        steps = {job["fw_id"]: job["spec"].get("step") for job in jobs}
        gates = [node for node in dependent if steps[node] == Step.GATE.value]
        added = {node for gate in gates for node in nx.descendants(graph, gate)}
        return sorted(node for node in added if steps[node] in AFTER_GATES)


def worker_of(owners: Sequence[str]) -> FWorker:
    """Return the FWorker of this process, which runs only jobs of these owners."""
    worker = this_worker()
    fworker = FWorker(name=f"gan-htvs@{worker.host}", query=owned_by(owners))
    attach_worker(fworker, worker)
    return fworker


def as_utc(written: datetime | str) -> datetime:
    """Return a time of FireWorks, stored as BSON date or as text without a zone, in UTC."""
    moment = datetime.fromisoformat(written) if isinstance(written, str) else written
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def last_update(launch: Mapping[str, Any]) -> datetime:
    """Return when a worker last wrote to a launch: at its start, a ping or its end."""
    latest = launch["state_history"][-1]
    return as_utc(latest.get("updated_on", latest["created_on"]))


def owned_by(owners: Sequence[str]) -> dict[str, Any]:
    """Return the query for Fireworks of these owners."""
    return {"spec.campaign": {"$in": list(owners)}}


def _has_ended(feeder: dict[str, Any]) -> bool:
    """Return whether a feeder ran on this machine and its process has ended."""
    return Worker.model_validate(feeder).liveness(BatchQueue(system=None)) is Liveness.DEAD
