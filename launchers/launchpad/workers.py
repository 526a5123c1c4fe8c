"""Identity of the workers that run jobs, and whether their processes are alive."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from gan_htvs.core.versions import versions
from launchers.launchpad.batch_system import (
    BatchJob,
    BatchQueue,
    BatchSystem,
    current_batch_job,
    user_name,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

    from fireworks import FWorker

START_TOLERANCE = 60.0
"""Tolerance for the start time of a process, s; it changes when the clock is set."""

MARK = "GAN_HTVS_WORKER"
"""Environment variable that identifies the worker in the processes it starts."""


class Liveness(StrEnum):
    """Whether the process of a worker is running."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


class Worker(BaseModel):
    """A process that runs jobs; it is stored with each of its launches.

    Parameters
    ----------
    host
        Name of the machine.
    user
        Name of the user.
    pid
        Process id.
    started
        Start time of the process, seconds since 1970; distinguishes processes with the same pid.
    batch_system
        Scheduler of the batch job, if any.
    cluster
        Name of the cluster.
    batch_job
        Id of the batch job.
    versions
        Installed versions of the packages that affect results.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str
    user: str
    pid: int
    started: float
    batch_system: BatchSystem | None = None
    cluster: str | None = None
    batch_job: str | None = None
    versions: dict[str, str] = {}

    def __str__(self) -> str:
        """Return the process id, the host and the batch job."""
        job = f", {self.batch_system} job {self.batch_job}" if self.batch_job else ""
        return f"process {self.pid} on {self.host}{job}"

    @property
    def mark(self) -> str:
        """Value of :data:`MARK` in the processes that it starts."""
        return f"{self.pid}@{self.host}"

    def liveness(self, queue: BatchQueue, *, is_single_machine: bool = False) -> Liveness:
        """Return whether the process is running.

        It is alive if this machine lists it, and dead if this machine would list it but does not.
        A running batch job does not show that its worker is alive.

        Parameters
        ----------
        queue
            Batch system of this machine.
        is_single_machine
            Whether only this machine can reach the database; the host name may have changed since.
        """
        is_mine = self.user == user_name()
        if is_single_machine or self.host == socket.gethostname():
            if running_process(self.pid, self.started) is not None:
                return Liveness.ALIVE
            # A machine may hide processes of other users.
            return Liveness.DEAD if is_mine else Liveness.UNKNOWN
        if self.batch_job and self.batch_system and is_mine:
            job = BatchJob(self.batch_job, self.batch_system, self.cluster)
            if queue.holds(job) is False:
                return Liveness.DEAD
        return Liveness.UNKNOWN


def this_worker() -> Worker:
    """Return the identity of this process."""
    job = current_batch_job()
    return Worker(
        host=socket.gethostname(),
        user=user_name(),
        pid=os.getpid(),
        started=psutil.Process().create_time(),
        batch_system=job.system if job else None,
        cluster=job.cluster if job else None,
        batch_job=job.id if job else None,
        versions=versions(),
    )


def attach_worker(fworker: FWorker, worker: Worker) -> None:
    """Add the identity of a worker to an FWorker, which FireWorks stores with every launch."""
    fworker.env = {**fworker.env, "worker": worker.model_dump(mode="json")}


def mark_children(worker: Worker) -> None:
    """Identify the worker in the environment of all processes that are started from now on."""
    os.environ[MARK] = worker.mark


def worker_of_launch(launch: Mapping[str, Any] | None) -> Worker | None:
    """Return the worker of a launch; None if FireWorks' own commands launched it."""
    fworker = (launch or {}).get("fworker") or {}
    with suppress(KeyError, ValidationError):
        return Worker.model_validate(fworker["env"]["worker"])
    return None


def stop_at_once(signum: int, _frame: FrameType | None) -> None:
    """Kill the children of this process and exit; a signal handler.

    FireWorks would record an exception as a failure of the job. A job that is still marked as
    running is queued again by a recovery.
    """
    try:
        _kill_children(psutil.Process())
    finally:
        os._exit(128 + signum)


def running_process(pid: int, started: float) -> psutil.Process | None:
    """Return the process with this id and start time if it is running; ids are reused."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        is_same = abs(process.create_time() - started) <= START_TOLERANCE
        if is_same and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def stop(processes: Sequence[psutil.Process], timeout: float) -> None:
    """Terminate processes, and kill those that are running after ``timeout`` seconds."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, remaining = psutil.wait_procs(processes, timeout)
    for process in remaining:
        _kill_children(process)
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(remaining, timeout)


def _kill_children(process: psutil.Process) -> None:
    with suppress(psutil.Error):
        for child in process.children(recursive=True):
            with suppress(psutil.Error):  # may have ended with its parent
                child.kill()


def differences(expected: Mapping[str, str], installed: Mapping[str, str]) -> list[str]:
    """Return the packages with different versions, the expected version first."""
    return [
        f"{package} {expected[package]} (not {installed[package]})"
        for package in sorted(expected.keys() & installed.keys())
        if expected[package] != installed[package]
    ]
