"""State of jobs in the batch system of this machine: SLURM, PBS or SGE."""

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
"""Time limit of the commands of a scheduler, s."""

_UNKNOWN_JOB = re.compile("unknown job|has finished|do not exist", re.IGNORECASE)
"""Output of PBS and SGE for a job that has ended."""


class BatchSystem(StrEnum):
    """A scheduler of a cluster."""

    SLURM = "slurm"
    PBS = "pbs"
    SGE = "sge"


_VARIABLES = {
    BatchSystem.SLURM: ("SLURM_JOB_ID", "SLURM_CLUSTER_NAME"),
    BatchSystem.PBS: ("PBS_JOBID", ""),  # ends with the name of the server
    BatchSystem.SGE: ("JOB_ID", "SGE_CLUSTER_NAME"),
}
"""Environment variables with the id and the cluster of a job."""


class BatchJob(NamedTuple):
    """A job of a batch system.

    Parameters
    ----------
    id
        Id in the environment of the job. Every element of a SLURM array has its own.
    system
        The batch system.
    cluster
        Name of the cluster, because ids are unique only within a cluster; PBS ids include it.
    """

    id: str
    system: BatchSystem
    cluster: str | None


def user_name() -> str:
    """Return the name of the user, or the user id if it has no name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def current_batch_job() -> BatchJob | None:
    """Return the batch job of this process, if any."""
    for system, (job, cluster) in _VARIABLES.items():
        if os.environ.get(job) and (system is not BatchSystem.SGE or "SGE_ROOT" in os.environ):
            return BatchJob(os.environ[job], system, os.environ.get(cluster))
    return None


def local_batch_system() -> BatchSystem | None:
    """Return the batch system whose commands are installed on this machine."""
    if shutil.which("squeue"):
        return BatchSystem.SLURM
    if shutil.which("qstat"):
        return BatchSystem.SGE if "SGE_ROOT" in os.environ else BatchSystem.PBS
    return None


@dataclass
class BatchQueue:
    """The batch system of this machine, with cached results of its commands.

    If a command fails, times out or prints unknown output, the state of a job is unknown, not
    ended.
    """

    system: BatchSystem | None = field(default_factory=local_batch_system)
    _outputs: dict[str, tuple[int | None, str]] = field(default_factory=dict, init=False)

    @property
    def cluster(self) -> str | None:
        """Name of the cluster to which this machine submits."""
        if self.system is BatchSystem.SLURM:
            code, output = self._run("scontrol", "show", "config")
            match = re.search(r"^ClusterName\s*=\s*(\S+)", output, re.MULTILINE)
            return match[1] if match and code == 0 else None
        return os.environ.get(
            "PBS_SERVER" if self.system is BatchSystem.PBS else "SGE_CLUSTER_NAME"
        )

    def holds(self, job: BatchJob) -> bool | None:
        """Return whether a job of this user waits or runs; None if unknown on this machine."""
        if job.system is not self.system:
            return None
        is_here = job.system is BatchSystem.PBS or job.cluster == self.cluster is not None
        return self.holds_id(job.id) if is_here else None

    def holds_id(self, job: str) -> bool | None:
        """Return whether a job of this user and cluster waits or runs; None if unknown."""
        match self.system:
            case BatchSystem.SLURM:
                # %A: id of the job or array element; %F: id of the array.
                code, output = self._run("squeue", "-h", "-u", user_name(), "-o", "%A %F")
                return job in output.split() if code == 0 else None
            case BatchSystem.PBS:
                code, output = self._run("qstat", "-f", job)
                state = re.search(r"job_state = (\w)", output)
                if code == 0:
                    # C: completed, F: finished, X: a finished element of an array
                    return state[1] not in "CFX" if state else None
            case BatchSystem.SGE:
                code, output = self._run("qstat", "-j", job)
                if code == 0:
                    return True
            case None:
                return None
        return False if _UNKNOWN_JOB.search(output) else None

    def _run(self, *command: str) -> tuple[int | None, str]:
        """Return the exit code and the output of a command; the code is None if it cannot run."""
        key = " ".join(command)
        if key not in self._outputs:
            done = run_program(command)
            output = (done.returncode, done.stdout + done.stderr) if done else (None, "")
            self._outputs[key] = output
        return self._outputs[key]


def run_program(
    command: Sequence[str], seconds: float = TIMEOUT
) -> subprocess.CompletedProcess[str] | None:
    """Run a program without input; return None if it is missing or exceeds the time limit."""
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
