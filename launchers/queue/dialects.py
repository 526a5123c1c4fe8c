"""SLURM, PBS and SGE: what their scripts say, and which queues they have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from gan_htvs.errors import UserError
from launchers.batch import BatchSystem
from launchers.queue.profiles import clock_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from launchers.queue.profiles import Profile


SIZES = ("mem", "mem_per_cpu", "pmem", "vmem", "pvmem", "h_vmem", "mem_free")
"""Keys of queue adapters that hold an amount of memory."""


class Names(NamedTuple):
    """Names that a batch system knows, of queues for example."""

    what: str
    key: str
    """Where a queue adapter says one."""
    command: tuple[str, ...]
    """Asks the batch system for all of them."""
    read: Callable[[str], list[str]] = str.split
    """Finds them in the answer."""


@dataclass(frozen=True)
class Dialect:
    """How to talk to a batch system, beside what FireWorks' ``CommonAdapter`` knows."""

    system: BatchSystem
    directives: Callable[[Profile], dict[str, Any]]
    """Values for the template of the batch script."""
    mpi: str
    """Starts a program on all cores of a task."""
    names: tuple[Names, ...]
    """What an adapter names must be among these."""
    size: re.Pattern[str]
    """Matches an amount of memory."""
    size_forms: str
    """The same for people."""

    @property
    def name(self) -> str:
        """What FireWorks and people call it."""
        return self.system.upper()

    @property
    def template(self) -> str:
        """Name the template of its scripts.

        FireWorks' own know no job arrays, no chunks of PBS, no slots of SGE, and no spaces in the
        name of a folder.
        """
        return f"{self.system}.txt"


def _slurm(profile: Profile) -> dict[str, Any]:
    return {
        "nodes": profile.nodes,
        "ntasks_per_node": profile.processes_per_node,
        "cpus_per_task": profile.cores // profile.processes_per_node,
        "gres": f"gpu:{profile.gpus}" if profile.gpus else None,
    }


def _pbs(profile: Profile) -> dict[str, Any]:
    chunk = f"{profile.nodes}:ncpus={profile.cores}:mpiprocs={profile.processes_per_node}"
    return {"select": f"{chunk}:ngpus={profile.gpus}" if profile.gpus else chunk}


def _pbs_queues(answer: str) -> list[str]:
    return re.findall(r"^Queue: (\S+)", answer, re.MULTILINE)


def _sge(profile: Profile) -> dict[str, Any]:
    return {
        "parallel_environment": f"{profile.parallel_environment} {profile.nodes * profile.cores}",
        "gpus": profile.gpus or None,
    }


def adapter_keys(dialect: Dialect, profile: Profile) -> dict[str, Any]:
    """Give the keys of a queue adapter that say what the batch system shall provide.

    Raises
    ------
    UserError
        If FireWorks could not count the batch jobs that are in the queue.
    """
    if dialect.system is BatchSystem.PBS and profile.queue is None:
        raise UserError(
            "--queue: with PBS, `qlaunch -m` counts batch jobs by the name of their queue and "
            "would submit without end: name one for every category, such as --queue workq."
        )
    keys = {
        "job_name": f"gan-htvs-{profile.category}",
        "queue": profile.queue,
        "account": profile.account,
        "walltime": clock_of(profile.walltime),
        "array": f"1-{profile.array}" if profile.array > 1 else None,
        **dialect.directives(profile),
    }
    return {key: value for key, value in keys.items() if value is not None}


DIALECTS = {
    dialect.system: dialect
    for dialect in (
        Dialect(
            BatchSystem.SLURM,
            _slurm,
            # Tasks on one node must not wait for each other's cores or memory.
            "srun --exact --mem=0 -c $OMP_NUM_THREADS -n",
            (Names("partition", "queue", ("sinfo", "-h", "-o", "%R")),),
            re.compile(r"\d+([KMGT]B?)?", re.IGNORECASE),
            "4G or 4000M, or a number of megabytes",
        ),
        Dialect(
            BatchSystem.PBS,
            _pbs,
            "mpiexec -n",
            # The table of `qstat -Q` cuts long names.
            (Names("queue", "queue", ("qstat", "-Qf"), _pbs_queues),),
            re.compile(r"\d+[KMGT][BW]?", re.IGNORECASE),
            "4gb or 4000mb",
        ),
        Dialect(
            BatchSystem.SGE,
            _sge,
            "mpirun -n",
            (
                Names("queue", "queue", ("qconf", "-sql")),
                Names("parallel environment", "parallel_environment", ("qconf", "-spl")),
            ),
            re.compile(r"\d+(\.\d+)?[KMG]", re.IGNORECASE),
            "4G or 4000M",
        ),
    )
}
