"""Who runs a job: the identity that a worker leaves in the database, and whether it still lives."""

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
"""Seconds by which the start of one process may differ when a clock was set meanwhile."""


MARK = "GAN_HTVS_WORKER"
"""Environment variable of all that a worker starts: whose it is."""


class Liveness(StrEnum):
    """Whether a worker still runs."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


class Worker(BaseModel):
    """A process that runs jobs, as every launch of it tells in the database.

    Parameters
    ----------
    host
        Name of its machine.
    user
        Name of its user.
    pid
        Its process id.
    started
        When the process started, seconds since 1970; a recycled pid started at another time.
    batch_system
        The scheduler that started it, if any.
    cluster
        Name of the cluster.
    batch_job
        Id of its batch job.
    versions
        Installed versions of the packages that decide results.
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
        """Name it as a person looks for it."""
        job = f", {self.batch_system} job {self.batch_job}" if self.batch_job else ""
        return f"process {self.pid} on {self.host}{job}"

    @property
    def mark(self) -> str:
        """What all that it starts bears as :data:`MARK`."""
        return f"{self.pid}@{self.host}"

    def liveness(self, queue: BatchQueue, *, is_single_machine: bool = False) -> Liveness:
        """Judge whether it still runs.

        Only a process that is seen is alive, and only one that must be seen and is not is dead. A
        batch job that runs is no proof of life: one of its workers may have died.

        Parameters
        ----------
        queue
            The batch system of this machine.
        is_single_machine
            No other machine can reach the database, so it ran on this one even if that had another
            name then.
        """
        is_mine = self.user == user_name()
        if is_single_machine or self.host == socket.gethostname():
            if running_process(self.pid, self.started) is not None:
                return Liveness.ALIVE
            # Some machines hide the processes of other users.
            return Liveness.DEAD if is_mine else Liveness.UNKNOWN
        if self.batch_job and self.batch_system and is_mine:
            job = BatchJob(self.batch_job, self.batch_system, self.cluster)
            if queue.holds(job) is False:
                return Liveness.DEAD
        return Liveness.UNKNOWN


def this_worker() -> Worker:
    """Describe this process."""
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
    """Put an identity where FireWorks stores it with every launch."""
    fworker.env = {**fworker.env, "worker": worker.model_dump(mode="json")}


def mark_children(worker: Worker) -> None:
    """Have all that this process starts from now on tell that it is this worker's."""
    os.environ[MARK] = worker.mark


def worker_of_launch(launch: Mapping[str, Any] | None) -> Worker | None:
    """Read who made a launch; None for a worker of FireWorks' own, which does not say."""
    env = (((launch or {}).get("fworker") or {}).get("env")) or {}
    try:
        return Worker.model_validate(env.get("worker"))
    except ValidationError:
        return None


def stop_at_once(signum: int, _frame: FrameType | None) -> None:
    """End this process and its children, as the handler of a signal.

    FireWorks would record an exception as a failure of the job. A job that simply vanishes is
    queued again.
    """
    try:
        _kill_children(psutil.Process())
    finally:
        os._exit(128 + signum)


def running_process(pid: int, started: float) -> psutil.Process | None:
    """Return the process with this id if it runs and started then; ids are used again."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        is_same = abs(process.create_time() - started) <= START_TOLERANCE
        if is_same and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def stop(processes: Sequence[psutil.Process], patience: float) -> None:
    """End processes, and kill those that have not ended after some seconds."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, deaf = psutil.wait_procs(processes, patience)
    for process in deaf:
        _kill_children(process)
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(deaf, patience)


def _kill_children(process: psutil.Process) -> None:
    with suppress(psutil.Error):
        for child in process.children(recursive=True):
            with suppress(psutil.Error):  # it may end with its parent
                child.kill()


def differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Name the packages that both have in different versions, ours first."""
    return [
        f"{package} {ours[package]} (not {theirs[package]})"
        for package in sorted(ours.keys() & theirs.keys())
        if ours[package] != theirs[package]
    ]
