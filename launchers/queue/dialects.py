"""Keys of batch scripts and commands that list queues, for SLURM, PBS and SGE."""

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
    """Names defined by a batch system, such as its queues."""

    what: str
    """Kind of name, for messages."""
    key: str
    """Key of the queue adapter that holds such a name."""
    command: tuple[str, ...]
    """Command that prints all names."""
    pattern: str = r"\S+"
    """Regular expression for one name in the output."""


class Dialect(NamedTuple):
    """Properties of a batch system that FireWorks' ``CommonAdapter`` does not provide."""

    mpi: str
    """Command that starts a program on all cores of a task."""
    names: tuple[Names, ...]
    """Names that must exist in the batch system."""
    size: str
    """Regular expression for an amount of memory."""
    size_forms: str
    """Forms of an amount of memory, for messages."""


DIALECTS = {
    BatchSystem.SLURM: Dialect(
        # Without these options, tasks on one node wait for each other's cores or memory.
        "srun --exact --mem=0 -c $OMP_NUM_THREADS -n",
        (Names("partition", "queue", ("sinfo", "-h", "-o", "%R")),),
        r"\d+([KMGT]B?)?",
        "4G or 4000M, or a number of megabytes",
    ),
    BatchSystem.PBS: Dialect(
        "mpiexec -n",
        # The table of `qstat -Q` truncates long names.
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

    FireWorks' own templates support neither job arrays, PBS chunks, SGE slots nor spaces in folder
    names.
    """
    return f"{system}.txt"


def adapter_keys(system: BatchSystem, profile: Profile) -> dict[str, Any]:
    """Return the keys of a queue adapter that describe the resources of a batch job.

    Raises
    ------
    UserError
        If FireWorks could not count the batch jobs in the queue.
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
                    "--queue: required for PBS, because `qlaunch -m` counts batch jobs by queue "
                    "name and would otherwise submit without limit; set one for every category, "
                    "such as --queue workq."
                )
            keys["select"] = f"{profile.nodes}:ncpus={profile.cores}:mpiprocs={n_processes}"
            keys["select"] += f":ngpus={profile.gpus}" if profile.gpus else ""
        case BatchSystem.SGE:
            n_slots = profile.nodes * profile.cores
            keys["parallel_environment"] = f"{profile.parallel_environment} {n_slots}"
            keys["gpus"] = profile.gpus or None
    return {key: value for key, value in keys.items() if value is not None}
