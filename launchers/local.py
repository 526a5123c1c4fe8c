"""Run a whole campaign on this machine: workers, phases, progress, interruption."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from maggma.utils import grouper

from flows.campaign import CampaignUnits
from gan_htvs.builders.candidates import CandidateBuilder
from gan_htvs.errors import UserError
from launchers.launchpad import ACTIVE_STATES

if TYPE_CHECKING:
    from pathlib import Path

    from jobflow import JobStore

    from flows.campaign import Unit
    from gan_htvs.campaign import Campaign
    from launchers.database import Databases
    from launchers.launchpad import CampaignLaunchPad

POLL_SECONDS = 1.0
IDLE_POLLS = 2
"""A job's children become ready a moment after it ends, so idleness must last."""
MAX_RESTARTS = 3
EXTENDABLE = {"name", "compositions", "max_atoms", "sampling", "thresholds"}
"""Settings that may change between two runs of one campaign."""

Worker: TypeAlias = "subprocess.Popen[bytes]"

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
    """

    campaign: Campaign
    databases: Databases
    launchpad_file: Path
    directory: Path
    n_workers: int
    watch: Watcher
    _restarts: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._units = CampaignUnits(self.campaign)

    def run(self) -> None:
        """Go on from wherever an earlier run stopped until nothing is left to do.

        Raises
        ------
        UserError
            If workers keep dying, or references or training fail.
        """
        with self._alone():
            self._run()

    def _run(self) -> None:
        register(self.campaign, self.databases)
        launchpad = self.databases.launchpad()
        launchpad.initialise()
        launchpad.recover(self._units.owners)
        # Nothing can go on without references and training, so those get another chance.
        launchpad.retry([self._units.references, self._units.training])
        with self.databases.job_store() as outputs:
            outputs.ensure_index("uuid")
            done = {document["uuid"] for document in outputs.query({}, ["uuid"])}
            pending = self._units.units(done)
            pending = self._queue_ready(launchpad, outputs, pending)
            if launchpad.is_busy(self._units.owners):
                with self._workers() as workers:
                    pending = self._see_through(launchpad, outputs, pending, workers)
        if pending:
            raise UserError(self._why_stuck(launchpad, pending))

    def _see_through(
        self,
        launchpad: CampaignLaunchPad,
        outputs: JobStore,
        pending: list[Unit],
        workers: list[Worker],
    ) -> list[Unit]:
        """Queue units as what they need is stored, until nothing runs; return the unqueued."""
        idle_polls = 0
        while idle_polls < IDLE_POLLS:
            time.sleep(POLL_SECONDS)
            self._replace_dead(workers, launchpad)
            pending = self._queue_ready(launchpad, outputs, pending)
            states = launchpad.states(self._units.owners)
            busy = any(state in ACTIVE_STATES for _, state in states)
            idle_polls = 0 if busy else idle_polls + 1
            self.watch(states)
        return pending

    def _queue_ready(
        self, launchpad: CampaignLaunchPad, outputs: JobStore, pending: list[Unit]
    ) -> list[Unit]:
        needed = frozenset().union(*(unit.needs for unit in pending))
        found = outputs.query({"uuid": {"$in": sorted(needed)}}, ["uuid"]) if needed else []
        stored = {document["uuid"] for document in found}
        launchpad.submit([u for u in pending if u.needs <= stored], self.campaign.name)
        return [unit for unit in pending if not unit.needs <= stored]

    @contextmanager
    def _workers(self) -> Iterator[list[Worker]]:
        workers = [self._start_worker(number) for number in range(self.n_workers)]
        try:
            yield workers
        finally:
            for worker in workers:
                with suppress(ProcessLookupError):
                    worker.terminate()
            for worker in workers:
                worker.wait()

    def _start_worker(self, number: int) -> Worker:
        launches = self.directory.resolve() / "launches"
        logs = self.directory / "logs"
        for folder in (launches, logs):
            folder.mkdir(parents=True, exist_ok=True)
        arguments = (str(self.launchpad_file.resolve()), str(launches), *self._units.owners)
        # One thread each: oversubscribed torch is ten times slower.
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with (logs / f"worker-{number}.log").open("ab") as log:
            # Its own session: Ctrl-C reaches this process alone, which then stops the workers.
            return subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "launchers.worker", *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.PIPE,  # never written to: closes when this process ends
                env=environment,
                start_new_session=True,
            )

    def _replace_dead(self, workers: list[Worker], launchpad: CampaignLaunchPad) -> None:
        for number, worker in enumerate(workers):
            if worker.poll() is None:
                continue
            # A dead database kills workers too; asking it tells the two apart.
            launchpad.recover(self._units.owners)
            self._restarts += 1
            if self._restarts > MAX_RESTARTS:
                log = self.directory / "logs" / f"worker-{number}.log"
                raise UserError(f"Workers keep dying (exit code {worker.returncode}); see {log}.")
            workers[number] = self._start_worker(number)

    def _why_stuck(self, launchpad: CampaignLaunchPad, pending: list[Unit]) -> str:
        failures = launchpad.failures([self._units.references, self._units.training])
        reason = "; ".join(f"{name}: {trace}" for name, trace in failures) or "no job raised"
        return f"{len(pending)} parts of the campaign cannot start, what they need failed: {reason}"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
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


def register(campaign: Campaign, databases: Databases) -> None:
    """Store a campaign's settings, and refuse to mix two campaigns under one name.

    Raises
    ------
    UserError
        If a campaign of this name exists with other chemistry, data, generator or engines.
    """
    settings = campaign.model_dump(mode="json")
    with databases.store("campaigns", key="name") as campaigns:
        existing = campaigns.query_one({"name": campaign.name})
        if existing is not None:
            before = existing["settings"]
            for section in settings.keys() - EXTENDABLE:
                if before.get(section) != settings[section]:
                    raise UserError(
                        f"Campaign {campaign.name!r} was started with another {section!r}: give "
                        "this one a new name, or restore the setting."
                    )
            if before == settings:
                return
        document = {"name": campaign.name, "settings": settings, "last_updated": datetime.now(UTC)}
        campaigns.update([document], key="name")


def build_candidates(databases: Databases) -> int:
    """Bring the candidates collection up to date and return how many documents changed."""
    builder = CandidateBuilder(
        databases.store("outputs", key="uuid"),
        databases.store("campaigns", key="name"),
        databases.store("candidates", key="candidate_id"),
    )
    builder.connect()
    changed = 0
    # What Builder.run does, without its progress bar, and counting.
    for items in grouper(builder.get_items(), builder.chunk_size):
        documents = [builder.process_item(item) for item in items]
        builder.update_targets(documents)
        changed += len(documents)
    return changed
