"""What the batch system of this machine knows of its jobs: SLURM, PBS or SGE."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT = 60.0
"""Seconds; a scheduler that takes longer has not answered."""

_UNKNOWN_JOB = re.compile("unknown job|has finished|do not exist", re.IGNORECASE)
"""Answer of PBS and SGE about a job that has ended."""


class BatchSystem(StrEnum):
    """A scheduler of a cluster."""

    SLURM = "slurm"
    PBS = "pbs"
    SGE = "sge"


_VARIABLES = {
    BatchSystem.SLURM: ("SLURM_JOB_ID", "SLURM_CLUSTER_NAME"),
    BatchSystem.PBS: ("PBS_JOBID", ""),  # ends in the name of the server
    BatchSystem.SGE: ("JOB_ID", "SGE_CLUSTER_NAME"),
}
"""Environment variables of a job: its id and its cluster."""


class BatchJob(NamedTuple):
    """A job of a batch system.

    Parameters
    ----------
    id
        As the batch system tells it to the job itself. Every element of a SLURM array has one.
    system
        Which batch system.
    cluster
        Name of the cluster, since two of them may number their jobs alike. Ids of PBS tell it.
    """

    id: str
    system: BatchSystem
    cluster: str | None


def user_name() -> str:
    """Name of the user, or the number of one who has none, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def current_batch_job() -> BatchJob | None:
    """Find the batch job that this process belongs to, if any."""
    for system, (job, cluster) in _VARIABLES.items():
        if os.environ.get(job) and (system is not BatchSystem.SGE or "SGE_ROOT" in os.environ):
            return BatchJob(os.environ[job], system, os.environ.get(cluster))
    return None


def local_batch_system() -> BatchSystem | None:
    """Find the batch system whose commands this machine has."""
    if shutil.which("squeue"):
        return BatchSystem.SLURM
    if shutil.which("qstat"):
        return BatchSystem.SGE if "SGE_ROOT" in os.environ else BatchSystem.PBS
    return None


@dataclass
class BatchQueue:
    """The batch system of this machine, queried as rarely as possible.

    An answer that is not understood, or does not come, is no answer: no job is taken for gone
    because a scheduler was busy.
    """

    system: BatchSystem | None = field(default_factory=local_batch_system)
    _answers: dict[str, tuple[int | None, str]] = field(default_factory=dict, init=False)

    @property
    def cluster(self) -> str | None:
        """Name of the cluster that this machine submits to."""
        if self.system is BatchSystem.SLURM:
            code, answer = self._ask("scontrol", "show", "config")
            found = re.search(r"^ClusterName\s*=\s*(\S+)", answer, re.MULTILINE)
            return found[1] if found and code == 0 else None
        return os.environ.get(
            "PBS_SERVER" if self.system is BatchSystem.PBS else "SGE_CLUSTER_NAME"
        )

    def holds(self, job: BatchJob) -> bool | None:
        """Whether a job of this user waits or runs; None if that cannot be known here."""
        if job.system is not self.system:
            return None
        is_here = job.system is BatchSystem.PBS or job.cluster == self.cluster is not None
        return self.holds_id(job.id) if is_here else None

    def holds_id(self, job: str) -> bool | None:
        """Whether a job of this user and this cluster waits or runs; None without an answer."""
        match self.system:
            case BatchSystem.SLURM:
                # Both numbers of an element of an array: its own, and that of the array.
                code, answer = self._ask("squeue", "-h", "-u", user_name(), "-o", "%A %F")
                return job in answer.split() if code == 0 else None
            case BatchSystem.PBS:
                code, answer = self._ask("qstat", "-f", job)
                state = re.search(r"job_state = (\w)", answer)
                if code == 0:
                    # C: completed, F: finished, X: a finished element of an array
                    return state[1] not in "CFX" if state else None
            case BatchSystem.SGE:
                code, answer = self._ask("qstat", "-j", job)
                if code == 0:
                    return True
            case None:
                return None
        return False if _UNKNOWN_JOB.search(answer) else None

    def _ask(self, *command: str) -> tuple[int | None, str]:
        """Return the exit code of a command, None if it does not answer, and what it printed."""
        key = " ".join(command)
        if key not in self._answers:
            done = run_program(command)
            output = (done.returncode, done.stdout + done.stderr) if done else (None, "")
            self._answers[key] = output
        return self._answers[key]


def run_program(
    command: Sequence[str], seconds: float = TIMEOUT
) -> subprocess.CompletedProcess[str] | None:
    """Run a program that only reports; None if it does not exist or takes too long."""
    try:
        return subprocess.run(  # noqa: S603
            command,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
