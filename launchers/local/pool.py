"""The worker processes of this machine: started, replaced when they die, stopped."""

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
"""Times that workers died without a job: no job is the cause, and starting more no cure."""

IDLE_DEATHS_SECONDS = 600.0
"""Time within which so many count: what keeps workers from starting ends them within seconds."""

STOP_SECONDS = 30.0
"""A worker ends at once, unless it writes the state of a training."""


@dataclass
class WorkerPool:
    """Worker processes, for use as a context manager.

    Parameters
    ----------
    size
        Number of processes.
    launchpad_file
        The file that names the databases.
    directory
        Holds ``launches`` and ``logs``.
    owners
        Whose jobs the workers take.
    """

    size: int
    launchpad_file: Path
    directory: Path
    owners: Sequence[str]
    _workers: list[psutil.Popen] = field(default_factory=list, init=False)
    _idle_deaths: list[float] = field(default_factory=list, init=False)

    def __enter__(self) -> Self:
        """Start the workers."""
        for folder in ("launches", "logs"):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        self._workers = [self._start(number) for number in range(self.size)]
        return self

    def __exit__(self, *_: object) -> None:
        """Stop them; what they were running is queued again by the next run."""
        stop(self._workers, STOP_SECONDS)

    def replace_dead(self, recovery: Recovery) -> None:
        """Start anew the workers that died, and take up their jobs.

        Raises
        ------
        UserError
            If workers die without having taken a job.
        """
        dead = [n for n, worker in enumerate(self._workers) if worker.poll() is not None]
        if not dead:
            return
        # A dead database kills workers too; asking it tells the two apart.
        lost = recovery.runs()
        for lost_job in lost:
            recovery.repair(lost_job)
        now = time.monotonic()
        recent = [then for then in self._idle_deaths if now - then < IDLE_DEATHS_SECONDS]
        self._idle_deaths = [*recent, now] if len(dead) > len(lost) else recent
        if len(self._idle_deaths) > MAX_IDLE_DEATHS:
            code = self._workers[dead[-1]].returncode
            raise UserError(f"Workers keep dying (exit code {code}); see {self._log(dead[-1])}.")
        for number in dead:
            self._workers[number] = self._start(number)

    def _log(self, number: int) -> Path:
        return self.directory / "logs" / f"worker-{number}.log"

    def _start(self, number: int) -> psutil.Popen:
        launches = self.directory.resolve() / "launches"
        arguments = (str(self.launchpad_file.resolve()), str(launches), *self.owners)
        # One thread each: oversubscribed torch is ten times slower.
        share = max(1, len(os.sched_getaffinity(0)) // self.size)
        environment = os.environ | {"OMP_NUM_THREADS": "1", CORES_VARIABLE: str(share)}
        with self._log(number).open("ab") as log:
            # Its own session: Ctrl-C reaches this process alone, which then stops the workers.
            return psutil.Popen(
                [sys.executable, "-m", "launchers.local.worker", *arguments],
                stdout=log,
                stderr=log,
                stdin=PIPE,  # never written to: closes when this process ends
                env=environment,
                start_new_session=True,
            )
