"""What the batch system of this machine knows of its jobs: SLURM, PBS or SGE."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

TIMEOUT = 60.0
"""Seconds; a scheduler that takes longer has not answered."""


class BatchSystem(StrEnum):
    """A scheduler of a cluster."""

    SLURM = "slurm"
    PBS = "pbs"
    SGE = "sge"


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


def own_job() -> BatchJob | None:
    """Find the batch job that this process belongs to, if any."""
    environment = os.environ
    if job := environment.get("SLURM_JOB_ID"):
        return BatchJob(job, BatchSystem.SLURM, environment.get("SLURM_CLUSTER_NAME"))
    if job := environment.get("PBS_JOBID"):  # ends in the name of the server
        return BatchJob(job, BatchSystem.PBS, None)
    if (job := environment.get("JOB_ID")) and "SGE_ROOT" in environment:
        return BatchJob(job, BatchSystem.SGE, environment.get("SGE_CLUSTER_NAME"))
    return None


def system_here() -> BatchSystem | None:
    """Find the batch system whose commands this machine has."""
    if shutil.which("squeue"):
        return BatchSystem.SLURM
    if shutil.which("qstat"):
        return BatchSystem.SGE if "SGE_ROOT" in os.environ else BatchSystem.PBS
    return None


@dataclass
class BatchQueue:
    """The batch system of this machine, asked as seldom as possible.

    An answer that is not understood, or does not come, is no answer: nobody's job is taken for
    gone because a scheduler was busy.
    """

    system: BatchSystem | None = field(default_factory=system_here)
    _answers: dict[str, Any] = field(default_factory=dict, init=False)

    @property
    def cluster(self) -> str | None:
        """Name of the cluster that this machine submits to."""
        if self.system is BatchSystem.SLURM:
            told = self._ask("scontrol", "show", "config")
            found = re.search(
                r"^ClusterName\s*=\s*(\S+)", told.stdout if told else "", re.MULTILINE
            )
            return found[1] if found else None
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
        """Whether a job of this user and this cluster waits or runs; None if nobody answers."""
        match self.system:
            case BatchSystem.SLURM:
                # Both numbers of an element of an array: its own, and that of the array.
                told = self._ask("squeue", "-h", "-u", user_name(), "-o", "%A %F")
                return job in told.stdout.split() if told and told.returncode == 0 else None
            case BatchSystem.PBS:
                return _pbs_holds(self._ask("qstat", "-f", job))
            case BatchSystem.SGE:
                return _sge_holds(self._ask("qstat", "-j", job))
        return None

    def _ask(self, *command: str) -> subprocess.CompletedProcess[str] | None:
        key = " ".join(command)
        if key not in self._answers:
            self._answers[key] = _answer(command)
        return self._answers[key]


def _answer(command: tuple[str, ...]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _pbs_holds(told: subprocess.CompletedProcess[str] | None) -> bool | None:
    if told is None:
        return None
    if told.returncode == 0:
        state = re.search(r"job_state = (\w)", told.stdout)
        ended = ("C", "F", "X")  # completed, finished, a finished element of an array
        return state[1] not in ended if state else None
    gone = re.search(r"unknown job|has finished", told.stderr, re.IGNORECASE)
    return False if gone else None


def _sge_holds(told: subprocess.CompletedProcess[str] | None) -> bool | None:
    if told is None:
        return None
    if told.returncode == 0:
        return True
    return False if "do not exist" in told.stdout + told.stderr else None
