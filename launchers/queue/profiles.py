"""Resources of the batch jobs of each category, and their notation in SLURM, PBS and SGE."""

from __future__ import annotations

import re
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from gan_htvs.campaign.routing import Category
from gan_htvs.core.errors import UserError
from gan_htvs.core.settings import NonNegativeInt, PositiveInt, Settings, first_message
from launchers.launchpad.batch_system import BatchSystem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_HOUR = 3600

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


class Form(NamedTuple):
    """Form of a value."""

    pattern: str
    """Regular expression."""
    description: str
    """Description for messages."""


class Dialect(NamedTuple):
    """Properties of a batch system that FireWorks' ``CommonAdapter`` does not provide."""

    mpi: str
    """Command that starts a program on all cores of a task."""
    names: tuple[Names, ...]
    """Names that must exist in the batch system."""
    size: Form
    """Form of an amount of memory."""
    time: Form
    """Form of a time."""


TIME = Form(r"(\d+-)?\d*:\d*:\d*", "HH:MM:SS or D-HH:MM:SS")

DIALECTS = {
    BatchSystem.SLURM: Dialect(
        # Without these options, tasks on one node wait for each other's cores or memory.
        "srun --exact --mem=0 -c $OMP_NUM_THREADS -n",
        (Names("partition", "queue", ("sinfo", "-h", "-o", "%R")),),
        Form(r"\d+([KMGT]B?)?", "4G or 4000M, or a number of megabytes"),
        Form(r"(\d+-)?\d*(:\d*){0,2}", "HH:MM:SS, D-HH:MM:SS, D-HH, MM:SS or minutes"),
    ),
    BatchSystem.PBS: Dialect(
        "mpiexec -n",
        # The table of `qstat -Q` truncates long names.
        (Names("queue", "queue", ("qstat", "-Qf"), r"^Queue: (\S+)"),),
        Form(r"\d+[KMGT][BW]?", "4gb or 4000mb"),
        Form(r"\d*(:\d*){0,2}", "HH:MM:SS, MM:SS or seconds"),
    ),
    BatchSystem.SGE: Dialect(
        "mpirun -n",
        (
            Names("queue", "queue", ("qconf", "-sql")),
            Names("parallel environment", "parallel_environment", ("qconf", "-spl")),
        ),
        Form(r"\d+(\.\d+)?[KMG]", "4G or 4000M"),
        Form(r"\d*(:\d*:\d*)?", "HH:MM:SS or seconds"),
    ),
}


def seconds_of(text: str | int, system: BatchSystem | None = None) -> int:
    """Convert a time to seconds.

    Parameters
    ----------
    text
        ``HH:MM:SS`` or ``D-HH:MM:SS``; a number is in seconds.
    system
        Batch system whose forms to read instead. For SLURM a number is in minutes.

    Raises
    ------
    ValueError
        If the text is not a time.
    """
    if isinstance(text, int) and system is None:
        return text
    form = DIALECTS[system].time if system else TIME
    if not re.fullmatch(form.pattern, str(text).strip()):
        raise ValueError(f"a time is {form.description}")
    days, _, clock = str(text).rpartition("-")
    numbers = [int(number or 0) for number in clock.split(":")]
    if days:  # the first number is hours
        numbers += [0] * (3 - len(numbers))
    elif system is BatchSystem.SLURM and len(numbers) == 1:
        numbers.append(0)
    return int(days or 0) * 24 * _HOUR + reduce(lambda total, n: 60 * total + n, numbers)


def clock_of(seconds: int) -> str:
    """Format a time as ``HH:MM:SS``, which every batch system reads."""
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


Word = Annotated[str, Field(pattern=r"^[\w.@,+:-]+$")]
Seconds = Annotated[int, BeforeValidator(seconds_of), Field(ge=60)]


class Profile(Settings):
    """The nodes of one batch job and the workers that share them."""

    category: Category
    queue: Word | None = Field(None, description="partition of SLURM, queue of PBS and SGE")
    account: Word | None = Field(None, description="account to charge")
    walltime: Seconds = 24 * _HOUR
    margin: Seconds = Field(_HOUR, description="time before the walltime in which no job starts")
    nodes: PositiveInt = 1
    cores: PositiveInt = Field(16, description="of each node")
    gpus: NonNegativeInt = Field(0, description="of each node")
    tasks: PositiveInt = Field(1, description="workers side by side: `rlaunch multi`")
    array: PositiveInt = Field(1, description="batch jobs per submission, as a job array")
    parallel_environment: Word = Field("smp", description="parallel environment of SGE")

    @model_validator(mode="after")
    def _can_work(self) -> Profile:
        if self.margin >= self.walltime:
            raise ValueError(
                f"no job would ever start with a margin of {clock_of(self.margin)} before a "
                f"walltime of {clock_of(self.walltime)}; set a shorter --margin"
            )
        if self.tasks > self.cores:
            raise ValueError(f"{self.tasks} tasks cannot share {self.cores} cores")
        if self.tasks > 1 and self.nodes > 1:
            raise ValueError("several tasks share one node: set nodes to 1, or tasks to 1")
        if self.tasks > 1 and self.gpus > 1:
            raise ValueError("several tasks would all use the first GPU: set gpus to 1")
        return self

    @property
    def starting_seconds(self) -> int:
        """Time after the start of a worker until which it takes another job, s."""
        return self.walltime - self.margin

    @property
    def ranks(self) -> int:
        """MPI processes of one calculation: one per GPU, or one per core without GPUs."""
        return max(1, self.nodes * (self.gpus or self.cores) // self.tasks)

    @property
    def cores_per_worker(self) -> int:
        """Cores of one node that a worker may use for a job without MPI."""
        return self.cores // self.tasks

    @property
    def processes_per_node(self) -> int:
        """Processes on a node: MPI processes, or one process that starts the workers."""
        return self.ranks * self.tasks // self.nodes if self.ranks > 1 else 1

    @property
    def threads(self) -> int:
        """Threads per worker or MPI process."""
        return max(1, self.nodes * self.cores // (self.tasks * self.ranks))

    def adapter_keys(self, system: BatchSystem) -> dict[str, Any]:
        """Return the keys of a queue adapter that describe the resources of a batch job.

        Raises
        ------
        UserError
            If FireWorks could not count the batch jobs in the queue.
        """
        keys: dict[str, Any] = {
            "job_name": f"gan-htvs-{self.category}",
            "queue": self.queue,
            "account": self.account,
            "walltime": clock_of(self.walltime),
            "array": f"1-{self.array}" if self.array > 1 else None,
        }
        n_processes = self.processes_per_node
        match system:
            case BatchSystem.SLURM:
                keys["nodes"] = self.nodes
                keys["ntasks_per_node"] = n_processes
                keys["cpus_per_task"] = self.cores // n_processes
                keys["gres"] = f"gpu:{self.gpus}" if self.gpus else None
            case BatchSystem.PBS if self.queue is None:
                raise UserError(
                    "--queue: required for PBS, because `qlaunch -m` counts batch jobs by queue "
                    "name and would otherwise submit without limit; set one for every category, "
                    "such as --queue workq."
                )
            case BatchSystem.PBS:
                keys["select"] = f"{self.nodes}:ncpus={self.cores}:mpiprocs={n_processes}"
                keys["select"] += f":ngpus={self.gpus}" if self.gpus else ""
            case BatchSystem.SGE:
                n_slots = self.nodes * self.cores
                keys["parallel_environment"] = f"{self.parallel_environment} {n_slots}"
                keys["gpus"] = self.gpus or None
        return {key: value for key, value in keys.items() if value is not None}


DEFAULTS: dict[Category, dict[str, Any]] = {
    Category.GPU: {"gpus": 1, "cores": 8, "margin": 6 * _HOUR},
    Category.CPU: {"tasks": None, "walltime": 12 * _HOUR},
    Category.DFT: {"margin": 12 * _HOUR},
    Category.HSE: {"margin": 18 * _HOUR},
}
"""Deviations from the defaults of :class:`Profile`; tasks of None: one per core.

Interrupted training resumes from its last state, so a small margin suffices. A VASP calculation
that is interrupted by the walltime is lost.
"""


def profiles_of(options: Mapping[str, Sequence[str]]) -> dict[Category, Profile]:
    """Build the profile of every category from command-line options.

    Parameters
    ----------
    options
        Field of :class:`Profile` -> values ``CATEGORY=VALUE``, or ``VALUE`` for all categories.

    Raises
    ------
    UserError
        If a value is wrong.
    """
    return {category: _profile(category, options) for category in Category}


def _profile(category: Category, options: Mapping[str, Sequence[str]]) -> Profile:
    fields: dict[str, Any] = {"category": category} | DEFAULTS[category]
    for field, values in options.items():
        # A value for one category takes precedence over a value for all, in either order.
        for text in sorted(values, key=lambda text: "=" in text):
            name, has_category, value = text.partition("=")
            if has_category and name not in {*Category}:
                raise UserError(
                    f"--{field.replace('_', '-')} {text}: the categories are {', '.join(Category)}."
                )
            if not has_category or name == category:
                fields[field] = value if has_category else text
    if fields.get("tasks", 1) is None:
        fields["tasks"] = fields.get("cores", Profile.model_fields["cores"].default)
    try:
        return Profile.model_validate(fields)
    except ValidationError as error:
        problem = error.errors()[0]
        field = "".join(str(part) for part in problem["loc"]).replace("_", "-")
        option = f"--{field} {category}={problem['input']}" if field else f"category {category}"
        raise UserError(f"{option}: {first_message(error)}.") from error
