"""SLURM, PBS and SGE: keys of their batch scripts, and how to list their queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gan_htvs.core.errors import UserError
from launchers.launchpad.batch_system import BatchSystem
from launchers.queue.profiles import clock_of

if TYPE_CHECKING:
    from launchers.queue.profiles import Profile

SIZES = ("mem", "mem_per_cpu", "pmem", "vmem", "pvmem", "h_vmem", "mem_free")
"""Keys of queue adapters that hold an amount of memory."""


class Names(NamedTuple):
    """Names that a batch system knows, such as its queues."""

    what: str
    key: str
    """Key of a queue adapter that holds such a name."""
    command: tuple[str, ...]
    """Prints all of them."""
    pattern: str = r"\S+"
    """Matches each of them in the output."""


class Dialect(NamedTuple):
    """What FireWorks' ``CommonAdapter`` does not know about a batch system."""

    mpi: str
    """Starts a program on all cores of a task."""
    names: tuple[Names, ...]
    """Names that an adapter must choose from."""
    size: str
    """Matches an amount of memory."""
    size_forms: str
    """The same in words."""


DIALECTS = {
    BatchSystem.SLURM: Dialect(
        # Tasks on one node must not wait for each other's cores or memory.
        "srun --exact --mem=0 -c $OMP_NUM_THREADS -n",
        (Names("partition", "queue", ("sinfo", "-h", "-o", "%R")),),
        r"\d+([KMGT]B?)?",
        "4G or 4000M, or a number of megabytes",
    ),
    BatchSystem.PBS: Dialect(
        "mpiexec -n",
        # The table of `qstat -Q` cuts long names.
        (Names("queue", "queue", ("qstat", "-Qf"), r"^Queue: (\S+)"),),
        r"\d+[KMGT][BW]?",
        "4gb or 4000mb",
    ),
    BatchSystem.SGE: Dialect(
        "mpirun -n",
        (
            Names("queue", "queue", ("qconf", "-sql")),
            Names("parallel environment", "parallel_environment", ("qconf", "-spl")),
        ),
        r"\d+(\.\d+)?[KMG]",
        "4G or 4000M",
    ),
}


def template_name(system: BatchSystem) -> str:
    """Return the name of the template of batch scripts.

    FireWorks' own templates know no job arrays, no chunks of PBS, no slots of SGE, and no spaces in
    the name of a folder.
    """
    return f"{system}.txt"


def adapter_keys(system: BatchSystem, profile: Profile) -> dict[str, Any]:
    """Return the keys of a queue adapter that describe the resources of a batch job.

    Raises
    ------
    UserError
        If FireWorks could not count the batch jobs that are in the queue.
    """
    keys: dict[str, Any] = {
        "job_name": f"gan-htvs-{profile.category}",
        "queue": profile.queue,
        "account": profile.account,
        "walltime": clock_of(profile.walltime),
        "array": f"1-{profile.array}" if profile.array > 1 else None,
    }
    n_processes = profile.processes_per_node
    match system:
        case BatchSystem.SLURM:
            keys["nodes"] = profile.nodes
            keys["ntasks_per_node"] = n_processes
            keys["cpus_per_task"] = profile.cores // n_processes
            keys["gres"] = f"gpu:{profile.gpus}" if profile.gpus else None
        case BatchSystem.PBS:
            if profile.queue is None:
                raise UserError(
                    "--queue: with PBS, `qlaunch -m` counts batch jobs by the name of their queue "
                    "and would submit without end: name one for every category, such as --queue "
                    "workq."
                )
            keys["select"] = f"{profile.nodes}:ncpus={profile.cores}:mpiprocs={n_processes}"
            keys["select"] += f":ngpus={profile.gpus}" if profile.gpus else ""
        case BatchSystem.SGE:
            n_slots = profile.nodes * profile.cores
            keys["parallel_environment"] = f"{profile.parallel_environment} {n_slots}"
            keys["gpus"] = profile.gpus or None
    return {key: value for key, value in keys.items() if value is not None}
