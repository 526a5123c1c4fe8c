"""The launchpad: queue units of work once, follow them, take up what was lost."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from fireworks import FWorker, LaunchPad
from fireworks.core.launchpad import WFLock
from pymongo import ReturnDocument
from pymongo.errors import PyMongoError

from gan_htvs.candidate import Step
from gan_htvs.errors import UserError
from launchers.batch import BatchQueue
from launchers.workers import Life, Worker, describe, this_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pymongo.collection import Collection


LEASE = timedelta(seconds=120)
"""A feeder of another machine that has not been heard of for so long is dead; adding a batch takes
a second. One of this machine is dead when its process is gone."""

LEASE_POLL_SECONDS = 0.2

PATIENCE = timedelta(seconds=5)
"""Whoever waits for another feeder for longer says so."""

ACTIVE_STATES = ("READY", "RESERVED", "RUNNING")

AFTER_GATES = (Step.HYBRID.value, Step.BAND_GAP.value, Step.GATE.value)
"""Steps of the jobs that a gate queues: its band gap, and the verdict with it."""

_EPOCH = datetime.fromtimestamp(0, UTC)


class Failure(NamedTuple):
    """A job that raised."""

    fw_id: int
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


class Launched(NamedTuple):
    """A job, and where it ran last."""

    fw_id: int
    uuid: str
    step: Step
    state: str
    folder: str | None
    """``host:path``; None if it was never launched."""


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

    Jobs are addressed by their owners, the label ``campaign`` of :mod:`flows.routing`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fw_id_assigner = _Counters(self.db.fw_id_assigner)

    def __repr__(self) -> str:
        """Return the address; FireWorks would show all settings, and a password among them."""
        return f"{type(self).__name__}({self.name!r} at {self.host})"

    def initialise(self) -> None:
        """Prepare an empty database; one in use is left as it is, whoever comes first."""
        fresh = self.fw_id_assigner.update_one(
            {"_id": -1}, {"$setOnInsert": {"next_fw_id": 1, "next_launch_id": 1}}, upsert=True
        )
        if fresh.upserted_id is not None:
            self.tuneup()

    def queued(self, keys: Iterable[str]) -> set[str]:
        """Find which of these units are on the launchpad, whatever their state."""
        query = {"metadata.unit": {"$in": list(keys)}}
        return {
            workflow["metadata"]["unit"]
            for workflow in self.workflows.find(query, {"metadata.unit": 1})
        }

    def n_open_workflows(self, campaign: str) -> int:
        """Count the workflows of compositions and candidates that have not ended."""
        unfinished = {"state": {"$in": ["WAITING", "READY", "RESERVED"]}}
        return self.fireworks.count_documents(
            {"spec.campaign": campaign, "spec.step": Step.RELEASE.value} | unfinished
        )

    def n_open_candidates(self, campaign: str) -> int:
        """Count the candidates whose evaluation is queued or running."""
        unfinished = {"state": {"$nin": ["COMPLETED", "ARCHIVED", "FIZZLED", "DEFUSED"]}}
        query = {"spec.campaign": campaign, "spec.step": Step.GATE.value} | unfinished
        return len(self.fireworks.distinct("spec.candidate_id", query))

    @contextmanager
    def sole_feeder(self) -> Iterator[Callable[[list[str]], None]]:
        """Let nobody else feed this launchpad meanwhile, on whatever machine.

        Gives a function that is called with the units of each batch before they are added: from
        its notes the next feeder takes away what one that was killed had added by halves.
        """
        leases = self.db["feeders"]
        lease = {"_id": "lease"}
        leases.update_one(lease, {"$setOnInsert": {"until": _EPOCH}}, upsert=True)
        mine = lease | {"holder": uuid4().hex}
        who = {"worker": this_worker().model_dump(mode="json", exclude={"versions"})}
        impatient = datetime.now(UTC) + PATIENCE
        while True:
            now = datetime.now(UTC)
            leases.update_one(
                lease | {"until": {"$lt": now}}, {"$set": mine | who | {"until": now + LEASE}}
            )
            taken = leases.find_one(lease) or {}
            if taken.get("holder") == mine["holder"]:
                break
            if _is_dead(taken.get("worker")):
                abandoned = lease | {"holder": taken["holder"]}
                leases.update_one(abandoned, {"$set": {"until": _EPOCH}})
                continue
            if now > impatient:
                impatient = now + LEASE
                self.m_logger.warning("somebody else queues workflows; waiting for them")
            time.sleep(LEASE_POLL_SECONDS)
        self._take_halves_away(taken.get("adding", []))

        def note_down(keys: list[str]) -> None:
            until = datetime.now(UTC) + LEASE
            noted = leases.update_one(mine, {"$set": {"adding": keys, "until": until}})
            if not noted.matched_count:
                raise UserError(
                    "queueing took so long that somebody else took over; the same command goes on."
                )

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

    def rerun_fw(self, fw_id: int, *args: Any, **kwargs: Any) -> list[int]:
        """Queue a job again, with those that follow from it.

        The band gaps that gates after it had queued are removed first: each gate queues its own
        when it runs again, and the old one would store the verdict of before as the latest.
        """
        if gaps := self._gaps_after(fw_id):
            with WFLock(self, fw_id):
                self._remove(gaps)
        rerun: list[int] = super().rerun_fw(fw_id, *args, **kwargs)
        return rerun

    def _gaps_after(self, fw_id: int) -> set[int]:
        """Find the jobs that gates queued which follow from a job, or which it is."""
        workflow = self.workflows.find_one({"nodes": fw_id}, {"links": 1}) or {"links": {}}
        links = {int(node): children for node, children in workflow["links"].items()}
        after = _reachable(links, [fw_id]) | {fw_id}
        jobs = self.fireworks.find({"fw_id": {"$in": list(after)}}, {"fw_id": 1, "spec.step": 1})
        steps = {job["fw_id"]: job["spec"].get("step") for job in jobs}
        gates = [node for node in after if steps.get(node) == Step.GATE.value]
        return {node for node in _reachable(links, gates) if steps.get(node) in AFTER_GATES}

    def _remove(self, fw_ids: set[int]) -> None:
        """Take jobs out of their workflow, whose other jobs keep the links between them."""
        workflow = self.workflows.find_one({"nodes": {"$in": list(fw_ids)}}) or {}
        left: dict[str, Any] = {
            name: {
                node: [each for each in others if each not in fw_ids]
                for node, others in workflow[name].items()
                if int(node) not in fw_ids
            }
            for name in ("links", "parent_links")
        }
        left["nodes"] = [node for node in workflow["nodes"] if node not in fw_ids]
        left["fw_states"] = {
            node: state for node, state in workflow["fw_states"].items() if int(node) not in fw_ids
        }
        self.workflows.update_one({"_id": workflow["_id"]}, {"$set": left})
        self.fireworks.delete_many({"fw_id": {"$in": sorted(fw_ids)}})

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
            found.append(Failure(job["fw_id"], job["name"], Step(job["spec"]["step"]), trace))
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

    def launched(self, owner: str, candidate_id: str, uuids: Sequence[str] = ()) -> list[Launched]:
        """List the jobs of one candidate, and others by their uuids, in the order of their ids."""
        jobs = self.fireworks.find(
            _of([owner])
            | {
                "$or": [
                    {"spec.candidate_id": candidate_id},
                    {"spec._tasks.job.uuid": {"$in": list(uuids)}},
                ]
            },
            {"fw_id": 1, "state": 1, "launches": 1, "spec.step": 1, "spec._tasks.job.uuid": 1},
        )
        found = []
        for job in jobs.sort("fw_id", 1):
            launch = self._last_launch(job["launches"])
            found.append(
                Launched(
                    job["fw_id"],
                    job["spec"]["_tasks"][0]["job"]["uuid"],
                    Step(job["spec"]["step"]),
                    job["state"],
                    f"{launch['host']}:{launch['launch_dir']}" if launch else None,
                )
            )
        return found

    def unfinished(self, owner: str, uuids: Iterable[str]) -> set[str]:
        """Find which of these jobs of an owner are queued or running, or were stopped or failed.

        All of them may leave an output yet; those that failed, when they are queued again.
        """
        unfinished = {"state": {"$nin": ["COMPLETED", "ARCHIVED"]}}
        query = _of([owner]) | unfinished | {"spec._tasks.job.uuid": {"$in": list(uuids)}}
        jobs = self.fireworks.find(query, {"spec._tasks.job.uuid": 1})
        return {job["spec"]["_tasks"][0]["job"]["uuid"] for job in jobs}

    def _last_launch(self, launches: list[int]) -> dict[str, Any] | None:
        return self.launches.find_one({"launch_id": {"$in": launches}}, sort=[("launch_id", -1)])

    def _trace(self, launches: list[int]) -> str:
        return last_line(self._last_launch(launches))


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


def _is_dead(worker: dict[str, Any] | None) -> bool:
    """Whether a feeder that described itself so ran on this machine, and is gone."""
    if worker is None:
        return False
    nobody_asked = BatchQueue(system=None)
    return Worker.model_validate(worker).life(nobody_asked) is Life.DEAD


def _reachable(links: Mapping[int, Sequence[int]], nodes: Iterable[int]) -> set[int]:
    """Find the nodes of a graph that follow these."""
    found: set[int] = set()
    following = [child for node in nodes for child in links.get(node, ())]
    while following:
        node = following.pop()
        if node not in found:
            found.add(node)
            following += links.get(node, ())
    return found


def _of(owners: Sequence[str]) -> dict[str, Any]:
    return {"spec.campaign": {"$in": list(owners)}}


def last_line(launch: dict[str, Any] | None) -> str:
    """Read what a launch raised: the last line of its traceback."""
    action = (launch or {}).get("action") or {}
    trace = action.get("stored_data", {}).get("_exception", {}).get("_stacktrace", "")
    lines = trace.strip().splitlines()
    return lines[-1] if lines else "no traceback was left"
