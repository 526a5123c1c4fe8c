"""Pool of worker processes on this machine."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from subprocess import PIPE
from typing import TYPE_CHECKING, Self

import psutil

from gan_htvs.core.errors import UserError
from gan_htvs.core.processes import CORES_VARIABLE
from launchers.launchpad.workers import stop

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from launchers.monitor.recovery import Recovery

MAX_IDLE_DEATHS = 3
"""Number of workers that may die without a job before the pool gives up."""

IDLE_DEATHS_SECONDS = 600.0
"""Time window for ``MAX_IDLE_DEATHS``; workers that cannot start die within seconds."""

STOP_SECONDS = 30.0
"""Time limit for a worker to end; writing the state of a training takes some seconds."""


@dataclass
class WorkerPool:
    """Context manager of worker processes.

    Parameters
    ----------
    size
        Number of processes.
    launchpad_file
        my_launchpad.yaml.
    directory
        Parent folder of ``launches`` and ``logs``.
    owners
        Owners of the jobs that the workers run.

    Attributes
    ----------
    processes
        The worker processes by number.
    """

    size: int
    launchpad_file: Path
    directory: Path
    owners: Sequence[str]
    processes: list[psutil.Popen] = field(default_factory=list, init=False)
    _idle_deaths: list[float] = field(default_factory=list, init=False)

    def __enter__(self) -> Self:
        """Start the workers."""
        for folder in ("launches", "logs"):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        self.processes = [self._start(number) for number in range(self.size)]
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the workers; the next run queues their running jobs again."""
        stop(self.processes, STOP_SECONDS)

    def replace_dead(self, recovery: Recovery) -> None:
        """Restart workers that died, and queue their jobs again.

        Raises
        ------
        UserError
            If more than ``MAX_IDLE_DEATHS`` workers died without a job.
        """
        dead = [n for n, worker in enumerate(self.processes) if worker.poll() is not None]
        if not dead:
            return
        # Raises if the database is down, which also ends workers.
        lost_jobs = recovery.runs()
        for lost_job in lost_jobs:
            recovery.repair(lost_job)
        now = time.monotonic()
        recent = [death for death in self._idle_deaths if now - death < IDLE_DEATHS_SECONDS]
        self._idle_deaths = [*recent, now] if len(dead) > len(lost_jobs) else recent
        if len(self._idle_deaths) > MAX_IDLE_DEATHS:
            code, log = self.processes[dead[-1]].returncode, self.log_file(dead[-1])
            raise UserError(f"Workers keep dying (exit code {code}); see {log}.")
        for number in dead:
            self.processes[number] = self._start(number)

    def log_file(self, number: int) -> Path:
        """Return the file with the output of a worker."""
        return self.directory / "logs" / f"worker-{number}.log"

    def _start(self, number: int) -> psutil.Popen:
        launches = self.directory.resolve() / "launches"
        arguments = (str(self.launchpad_file.resolve()), str(launches), *self.owners)
        # One thread per worker: oversubscribed torch is ten times slower.
        share = max(1, len(os.sched_getaffinity(0)) // self.size)
        environment = os.environ | {"OMP_NUM_THREADS": "1", CORES_VARIABLE: str(share)}
        with self.log_file(number).open("ab") as log:
            # Its own session: Ctrl-C reaches only this process, which then stops the workers.
            return psutil.Popen(
                [sys.executable, "-m", "launchers.local.worker", *arguments],
                stdout=log,
                stderr=log,
                stdin=PIPE,  # never written; closed when this process ends
                env=environment,
                start_new_session=True,
            )
