"""Uuids of jobs from their content: no job is queued or computed twice."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from jobflow import Maker, OutputReference
from monty.json import jsanitize
from pydantic import BaseModel
from pymatgen.core import Structure

from flows.routing import Work, jobs_of
from gan_htvs.campaign.engines import PARALLEL_TAGS
from gan_htvs.core.hashing import content_uuid

if TYPE_CHECKING:
    from collections.abc import Iterator

WITHOUT_EFFECT = frozenset(
    {
        "@version",
        "accept_incomplete",
        "cpu_seconds",
        "device",
        "frozen_seconds",
        "funnel",
        "max_errors",
        "max_hybrid_evaluations",
        "max_scf_iterations",
        "max_seconds",
        "mpi_command",
        "polling_seconds",
        "precision",
        "previous",
        "round_max_energy_above_hull",
        "round_max_structures",
        "round_steps",
        "rounds",
        "routing",
        "window",
        *PARALLEL_TAGS,
    }
)
"""Fields that do not change what a job computes: where it runs, limits of its time and work, which
later runs may raise, durations of earlier runs, and stages, because documents are built with the
current stages. The settings of later rounds have no effect on the first training."""

FILES = frozenset({"checkpoint", "path"})
"""Fields with the path of a file, ignored if its ``sha256`` is given too."""

IN_ORDER = frozenset({"caps"})
"""Mappings whose order matters: caps order the rows of the images of a generator."""


def formula_of(structure: Structure) -> str:
    """Return a reduced formula without parentheses, for the names of jobs.

    jobflow-remote writes names into shell scripts, where parentheses are special characters.
    """
    counts = structure.composition.reduced_composition.formula.split()
    return "".join(re.sub(r"(?<=\D)1$", "", count) for count in counts)


def name_by_content(work: Work, *salt: str) -> Work:
    """Set the uuid of every job to a hash of its function, its Maker and its arguments.

    References between the jobs are updated. Flows that compute the same get the same uuids on
    every machine.

    Parameters
    ----------
    work
        A job or flow; it is changed in place.
    *salt
        Further names that the uuids depend on, such as that of a campaign.

    Returns
    -------
    The same object.
    """
    renamed: dict[str, str] = {}
    for job in jobs_of(work):
        for reference in _references([job.function_args, job.function_kwargs]):
            reference.set_uuid(renamed.get(reference.uuid, reference.uuid))
        uuid = content_uuid(
            *salt,
            f"{job.function.__module__}.{job.function.__qualname__}",
            _content(job.maker),
            _content(job.function_args),
            _content(job.function_kwargs),
        )
        renamed[job.uuid] = uuid
        job.set_uuid(uuid)
    for reference in _references(work.output):
        reference.set_uuid(renamed.get(reference.uuid, reference.uuid))
    return work


def _references(value: Any) -> Iterator[OutputReference]:
    """Yield the references in plain containers."""
    if isinstance(value, OutputReference):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _references(part)


def _content(value: Any) -> Any:
    """Convert an argument to types that :func:`gan_htvs.core.hashing.content_hash` accepts."""
    match value:
        case OutputReference():
            return ["output", value.uuid, [list(attribute) for attribute in value.attributes]]
        case Structure():
            properties = {name: list(values) for name, values in value.site_properties.items()}
            content: Any = [value, _content(properties)]
        case Maker():
            content = _content(value.as_dict())
        case BaseModel():
            content = _content({name: getattr(value, name) for name in type(value).model_fields})
        case dict():
            ignored = WITHOUT_EFFECT | FILES if value.get("sha256") else WITHOUT_EFFECT
            content = {
                str(key): _content(list(part.items()) if key in IN_ORDER else part)
                for key, part in value.items()
                if key not in ignored
            }
        case list() | tuple():
            content = [_content(part) for part in value]
        case _:
            content = jsanitize(value, strict=True, enum_values=True)
    return content
