"""What a batch job of each category asks of the batch system."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from gan_htvs.errors import UserError
from gan_htvs.routing import Category
from gan_htvs.settings import NonNegativeInt, PositiveInt, Settings, first_message
from launchers.batch import BatchSystem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_CLOCK = re.compile(r"(?:(?P<days>\d+)-)?(?P<hours>\d+):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d)")
_SLURM_DAYS = re.compile(r"(?P<days>\d+)-(?P<hours>\d+)(?::(?P<minutes>\d+))?")
_SHORT_CLOCK = re.compile(r"(?P<minutes>\d+):(?P<seconds>[0-5]?\d)")
_MINUTES = re.compile(r"(?P<minutes>\d+)")
_SECONDS = re.compile(r"(?P<seconds>\d+)")
_LOOSE_CLOCK = re.compile(r"(?P<hours>\d*):(?P<minutes>\d*):(?P<seconds>\d*)")
_TIMES: dict[BatchSystem | None, tuple[re.Pattern[str], ...]] = {
    None: (_CLOCK,),
    BatchSystem.SLURM: (_CLOCK, _LOOSE_CLOCK, _SLURM_DAYS, _SHORT_CLOCK, _MINUTES),
    BatchSystem.PBS: (_LOOSE_CLOCK, _SHORT_CLOCK, _SECONDS),
    BatchSystem.SGE: (_LOOSE_CLOCK, _SECONDS),
}
"""Forms of a time by batch system; None: the form that all of them read, and days before it."""

_FORMS = {
    None: "HH:MM:SS or D-HH:MM:SS",
    BatchSystem.SLURM: "HH:MM:SS, D-HH:MM:SS, D-HH, MM:SS or minutes",
    BatchSystem.PBS: "HH:MM:SS, MM:SS or seconds",
    BatchSystem.SGE: "HH:MM:SS or seconds",
}
_WORD = re.compile(r"[\w.@,+:-]+")


def seconds_of(text: str | int, system: BatchSystem | None = None) -> int:
    """Read a time.

    Parameters
    ----------
    text
        ``HH:MM:SS`` or ``D-HH:MM:SS``; a number is in seconds.
    system
        Read all the forms of this batch system instead. A number is in minutes for SLURM.

    Raises
    ------
    ValueError
        If it is none.
    """
    if isinstance(text, int) and system is None:
        return text
    for form in _TIMES[system]:
        if match := form.fullmatch(str(text).strip()):
            part = {name: int(value or 0) for name, value in match.groupdict().items()}
            hours = part.get("days", 0) * 24 + part.get("hours", 0)
            return (hours * 60 + part.get("minutes", 0)) * 60 + part.get("seconds", 0)
    raise ValueError(f"a time is {_FORMS[system]}")


def clock_of(seconds: int) -> str:
    """Write a time as every batch system reads it."""
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _a_word(text: str) -> str:
    if _WORD.fullmatch(text) is None:
        raise ValueError("names of queues, accounts and environments have no such characters")
    return text


Word = Annotated[str, AfterValidator(_a_word)]
Seconds = Annotated[int, BeforeValidator(seconds_of), Field(ge=60)]

_HOUR = 3600


class Profile(Settings):
    """One batch job: the nodes that it gets, and the workers that share them."""

    category: Category
    queue: Word | None = Field(None, description="partition of SLURM, queue of PBS and SGE")
    account: Word | None = Field(None, description="who pays")
    walltime: Seconds = 24 * _HOUR
    margin: Seconds = Field(_HOUR, description="workers start no job so near to the end")
    nodes: PositiveInt = 1
    cores: PositiveInt = Field(16, description="of each node")
    gpus: NonNegativeInt = Field(0, description="of each node")
    tasks: PositiveInt = Field(1, description="workers side by side: `rlaunch multi`")
    array: PositiveInt = Field(1, description="copies that one submission starts")
    parallel_environment: Word = Field("smp", description="parallel environment of SGE")

    @model_validator(mode="after")
    def _can_work(self) -> Profile:
        if self.margin >= self.walltime:
            raise ValueError(
                f"with a margin of {clock_of(self.margin)} before the walltime of "
                f"{clock_of(self.walltime)} no job would ever start"
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
        """How long after its own start a worker takes another job."""
        return self.walltime - self.margin

    @property
    def ranks(self) -> int:
        """MPI processes of one calculation: one on each GPU, or on each core."""
        return max(1, self.nodes * (self.gpus or self.cores) // self.tasks)

    @property
    def cores_each(self) -> int:
        """Cores of its own node that a worker may spread a job over without MPI."""
        return self.cores // self.tasks

    @property
    def processes_per_node(self) -> int:
        """Processes that share a node: MPI's, or one that starts the workers."""
        return self.ranks * self.tasks // self.nodes if self.ranks > 1 else 1

    @property
    def threads(self) -> int:
        """Threads of a worker or of an MPI process."""
        return max(1, self.nodes * self.cores // (self.tasks * self.ranks))


DEFAULTS: dict[Category, dict[str, Any]] = {
    Category.GPU: {"gpus": 1, "cores": 8, "margin": 6 * _HOUR},
    Category.CPU: {"tasks": None, "walltime": 12 * _HOUR},
    Category.DFT: {"margin": 12 * _HOUR},
    Category.HSE: {"margin": 18 * _HOUR},
}
"""What differs from the defaults of :class:`Profile`; no tasks: one on each core.

Training goes on from its last state, so that a margin spares little there; what VASP had
computed when the batch job ended is lost.
"""


def profiles_of(wanted: Mapping[str, Sequence[str]]) -> dict[Category, Profile]:
    """Make the profile of every category from options of the command line.

    Parameters
    ----------
    wanted
        Field of :class:`Profile` -> values ``CATEGORY=VALUE``, or ``VALUE`` for all categories.

    Raises
    ------
    UserError
        If a value is wrong.
    """
    chosen: dict[Category, dict[str, Any]] = {each: dict(DEFAULTS[each]) for each in Category}
    for field, values in wanted.items():
        # What is said of one category outdoes what is said of all, in either order.
        for categories, value in sorted(_said(field, values), key=lambda said: -len(said[0])):
            for category in categories:
                chosen[category][field] = value
    return {category: _profile(category, fields) for category, fields in chosen.items()}


def _said(field: str, values: Sequence[str]) -> Iterator[tuple[tuple[Category, ...], str]]:
    for text in values:
        name, is_one, value = text.partition("=")
        if not is_one:
            yield tuple(Category), name
        elif name in {*Category}:
            yield (Category(name),), value
        else:
            raise UserError(
                f"--{field.replace('_', '-')} {text}: the categories are {', '.join(Category)}."
            )


def _profile(category: Category, fields: dict[str, Any]) -> Profile:
    if fields.get("tasks", 1) is None:
        fields["tasks"] = fields.get("cores", Profile.model_fields["cores"].default)
    try:
        return Profile.model_validate(fields | {"category": category})
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        named = field.replace("_", "-")
        option = f"--{named} {category}={problem['input']}" if field else f"category {category}"
        raise UserError(f"{option}: {first_message(error)}.") from error
