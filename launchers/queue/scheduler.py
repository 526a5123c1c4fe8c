"""The batch systems, by name: all that the command line must know before a command runs."""

from __future__ import annotations

from enum import StrEnum


class Scheduler(StrEnum):
    """A batch system."""

    SLURM = "slurm"
    PBS = "pbs"
    SGE = "sge"
