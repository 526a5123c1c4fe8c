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
from typing import TYPE_CHECKING

from pymongo.errors import PyMongoError

from flows.campaign import CampaignUnits
from gan_htvs.builders.candidates import CandidateBuilder
from gan_htvs.errors import UserError

if TYPE_CHECKING:
    from launchers.launchpad import CampaignLaunchPad
    from pathlib import Path

    from gan_htvs.campaign import Campaign
    from launchers.database import Databases

POLL_SECONDS = 0.5
IDLE_POLLS = 2
"""A job's children become ready a moment after it ends, so idleness must last."""
MAX_RESTARTS = 3
EXTENDABLE = {"name", "compositions", "max_atoms", "sampling", "thresholds"}
"""Settings that may change between two runs of one campaign."""

Watcher = Callable[[Counter[tuple[str, str]]], None]
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
            If the database goes away, workers keep dying, or references or training fail.
        """
        with self._alone():
            try:
                self._run()
            except PyMongoError as error:
                raise UserError(
                    f"The database at {self.databases.settings.address} stopped answering; "
                    "what it acknowledged is on disk, and the same command goes on from there."
                ) from error

    def _run(self) -> None:
        register(self.campaign, self.databases)
        launchpad = self.databases.launchpad()
        launchpad.initialise()
        units = self._units
        launchpad.recover(units.owners)
        # Nothing can go on without references and training, so those get another chance.
        launchpad.retry([units.references, units.training])
        with self.databases.job_store() as outputs:
            done = {document["uuid"] for document in outputs.query({}, ["uuid"])}
            foundations = [unit for unit in units.foundations(done) if unit.key not in done]
            self._phase(launchpad, lambda: launchpad.submit(foundations, self.campaign.name))
            for unit in foundations:
                if not outputs.count({"uuid": unit.key}):
                    raise UserError(self._why_failed(launchpad, unit.flow.name))
            self._phase(launchpad, lambda: launchpad.submit(units.searches(), self.campaign.name))

    def _phase(self, launchpad: CampaignLaunchPad, submit: Callable[[], int]) -> None:
        """Queue work and see it through."""
        submit()
        if not launchpad.is_busy(self._units.owners):
            return
        with self._workers() as workers:
            idle_polls = 0
            while idle_polls < IDLE_POLLS:
                time.sleep(POLL_SECONDS)
                self._replace_dead(workers, launchpad)
                idle_polls = 0 if launchpad.is_busy(self._units.owners) else idle_polls + 1
                self.watch(launchpad.states(self._units.owners))

    @contextmanager
    def _workers(self) -> Iterator[list[subprocess.Popen[bytes]]]:
        workers = [self._start_worker(number) for number in range(self.n_workers)]
        try:
            yield workers
        finally:
            for worker in workers:
                with suppress(ProcessLookupError):
                    worker.terminate()
            for worker in workers:
                worker.wait()

    def _start_worker(self, number: int) -> subprocess.Popen[bytes]:
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
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )

    def _replace_dead(
        self, workers: list[subprocess.Popen[bytes]], launchpad: CampaignLaunchPad
    ) -> None:
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

    def _why_failed(self, launchpad: CampaignLaunchPad, unit: str) -> str:
        failures = launchpad.failures(self._units.owners)
        reason = "; ".join(f"{name}: {trace}" for name, trace in failures) or "no job raised"
        return f"The campaign cannot go on, {unit!r} failed: {reason}"

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
    documents = [builder.process_item(item) for item in builder.get_items()]
    builder.update_targets(documents)
    return len(documents)
