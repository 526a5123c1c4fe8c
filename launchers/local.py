"""Run a whole campaign on this machine: units in their order, progress, interruption."""

from __future__ import annotations

import fcntl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from jobflow import Flow

from flows.campaign import CampaignUnits, Unit
from flows.engines.band_gap import band_gap_engine
from flows.evaluate import band_gap_jobs
from gan_htvs.builders.documents import latest_gates
from gan_htvs.candidate import Stage, Step
from gan_htvs.documents import decode
from gan_htvs.errors import UserError
from gan_htvs.identity import content_uuid
from launchers.builders import build_candidates
from launchers.launchpad import ACTIVE_STATES
from launchers.locks import BUSY_LOCK_SECONDS, Locks
from launchers.pool import WorkerPool
from launchers.recovery import Recovery
from launchers.registry import register

if TYPE_CHECKING:
    from pathlib import Path

    from jobflow import JobStore

    from gan_htvs.campaign import Campaign
    from launchers.database import Databases
    from launchers.launchpad import CampaignLaunchPad

POLL_SECONDS = 1.0
IDLE_POLLS = 2
"""A job's children become ready a moment after it ends, so idleness must last."""

RETRIED = (Step.PROPOSE, Step.GATE, Step.BAND_GAP, Step.TRAIN, Step.REFERENCES)
"""Steps that are run again if they failed; a failed relaxation is a result."""

Watcher: TypeAlias = Callable[[Counter[tuple[str, str]]], None]
"""Called at every poll with the number of jobs by step and state."""


@dataclass
class LocalRun:
    """A campaign on this machine.

    Parameters
    ----------
    campaign
        What to run.
    databases
        Where everything is kept; must be reachable.
    launchpad_file
        The file that names them, for the workers.
    directory
        Job directories and worker logs.
    n_workers
        Worker processes.
    watch
        Called at every poll.
    tell
        Called with a sentence that the user should see.
    """

    campaign: Campaign
    databases: Databases
    launchpad_file: Path
    directory: Path
    n_workers: int
    watch: Watcher
    tell: Callable[[str], None]

    def __post_init__(self) -> None:
        self._units = CampaignUnits(self.campaign)

    def run(self) -> None:
        """Go on from wherever an earlier run stopped until nothing is left to do.

        Raises
        ------
        UserError
            If workers keep dying, or references or training fail.
        """
        with self._alone(), self.databases.job_store() as outputs:
            register(self.campaign, self.databases)
            launchpad = self.databases.launchpad()
            launchpad.initialise()
            outputs.ensure_index("uuid")
            self._take_up(launchpad)
            done = {document["uuid"] for document in outputs.query({}, ["uuid"])}
            self._work(launchpad, outputs, self._units.units(done))
            build_candidates(self.databases)
            self._work(launchpad, outputs, self._missing_gaps(outputs))
            build_candidates(self.databases)

    def _take_up(self, launchpad: CampaignLaunchPad) -> None:
        """Queue again what was lost or failed, and name whom we wait for."""
        owners = self._units.owners
        recovery = self._recovery(launchpad)
        # Whoever is gone was stopped with the run before, and so is no job's victim.
        replace(recovery, blames=False).recover()
        launchpad.retry(self._units.shared, Step)
        launchpad.retry(owners, RETRIED)
        if elsewhere := recovery.elsewhere():
            self.tell(
                f"Jobs of this campaign run on other machines ({', '.join(elsewhere)}); should "
                "those be dead, `gan-htvs recover --silent-for 0` queues their jobs again."
            )

    def _recovery(self, launchpad: CampaignLaunchPad) -> Recovery:
        embedded = self.databases.settings.embedded_storage is not None
        return Recovery(launchpad, self._units.owners, everyone_is_here=embedded)

    def _work(self, launchpad: CampaignLaunchPad, outputs: JobStore, units: list[Unit]) -> None:
        """See units through: each is queued as soon as what it needs is stored."""
        owners = self._units.owners
        pending = self._queue_ready(launchpad, outputs, units)
        if launchpad.is_busy(owners):
            recovery, locks = self._recovery(launchpad), Locks(launchpad)
            pool = WorkerPool(self.n_workers, self.launchpad_file, self.directory, owners)
            with pool:
                idle_polls = 0
                while idle_polls < IDLE_POLLS:
                    time.sleep(POLL_SECONDS)
                    pool.replace_dead(recovery)
                    for loss in recovery.half_taken():
                        recovery.cure(loss)
                    locks.finish_abandoned(BUSY_LOCK_SECONDS)
                    pending = self._queue_ready(launchpad, outputs, pending)
                    states = launchpad.states(owners)
                    busy = any(state in ACTIVE_STATES for _, state in states)
                    idle_polls = 0 if busy else idle_polls + 1
                    self.watch(states)
        if pending:
            failures = launchpad.failures(self._units.shared)
            reason = "; ".join(f"{each.name}: {each.trace}" for each in failures)
            raise UserError(
                f"{len(pending)} parts of the campaign cannot start because what they need "
                f"failed: {reason or 'no job raised'}"
            )

    def _queue_ready(
        self, launchpad: CampaignLaunchPad, outputs: JobStore, pending: list[Unit]
    ) -> list[Unit]:
        """Queue the units whose needs are stored and return the others."""
        needed = frozenset().union(*(unit.needs for unit in pending))
        found = outputs.query({"uuid": {"$in": sorted(needed)}}, ["uuid"]) if needed else []
        stored = {document["uuid"] for document in found}
        launchpad.submit([u for u in pending if u.needs <= stored], self.campaign.name)
        return [unit for unit in pending if not unit.needs <= stored]

    def _missing_gaps(self, outputs: JobStore) -> list[Unit]:
        """Band gaps that today's thresholds ask for and nobody has computed.

        The gates asked with the thresholds of their time, and a machine may have learnt to
        compute gaps since.
        """
        if band_gap_engine(self.campaign.engines).obstacle() is not None:
            return []
        with self.databases.store("candidates", key="candidate_id") as candidates:
            lacking = candidates.query(
                {
                    "campaign": self.campaign.name,
                    "stage": Stage.POURBAIX_STABLE.value,
                    "band_gap": None,
                },
                ["candidate_id", "band_gap_result.is_retryable"],
            )
            wanted = [
                document["candidate_id"]
                for document in lacking
                if (document.get("band_gap_result") or {}).get("is_retryable", True)
            ]
        gates = latest_gates(outputs.docs_store, [self.campaign.name], []) if wanted else {}
        return [self._gap_unit(outputs, gates[candidate_id]["uuid"]) for candidate_id in wanted]

    def _gap_unit(self, outputs: JobStore, gate: str) -> Unit:
        verdict = decode(outputs.query_one({"uuid": gate}, ["output"])["output"])
        *before, gap_job = band_gap_jobs(self.campaign, verdict.candidate_id, verdict.relaxed)
        previous = outputs.query_one({"uuid": gap_job.uuid}, ["completed_at"]) or {}
        key = content_uuid("gap again", gap_job.uuid, previous.get("completed_at"))
        missing = [each for each in before if not outputs.count({"uuid": each.uuid})]
        return Unit(key, Flow([*missing, gap_job], name=gap_job.name))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the directory of this campaign against a second run."""
        try:
            for folder in ("launches", "logs"):
                (self.directory / folder).mkdir(parents=True, exist_ok=True)
            lock = (self.directory / "run.lock").open("a")
        except OSError as error:
            raise UserError(
                f"{self.directory}: cannot write here ({error.strerror}); choose another --workdir."
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"Another run of campaign {self.campaign.name!r} is using {self.directory}."
                ) from error
            yield
