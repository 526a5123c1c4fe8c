"""The tables of a status, for a terminal or a web page."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from launchers.words import clock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from launchers.status.document import CampaignStatus, JobCount

STATES = ("WAITING", "READY", "RESERVED", "RUNNING", "COMPLETED", "FIZZLED")
"""Always shown; others where there are any."""

MOST_SHOWN = 20
"""Workers and kinds of failure in the tables; the JSON document has all."""


class Grid(NamedTuple):
    """A table: whole numbers are counts, others have one decimal, None is no number."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]
    n_more: int = 0
    """Rows that are left out."""


def grids(status: CampaignStatus) -> Iterator[Grid]:
    """Make the tables of a campaign; most have a row for a document and a column for a field."""
    yield _jobs(status.jobs)
    tables = {
        "At work": status.workers,
        "Throughput": status.throughput,
        "Failures": status.failures,
    }
    for title, documents in tables.items():
        if documents:
            kind = type(documents[0])
            fields = kind.model_fields | kind.model_computed_fields
            head = tuple(field.title or name.replace("_", " ") for name, field in fields.items())
            rows = [tuple(getattr(each, name) for name in fields) for each in documents]
            yield Grid(title, head, rows[:MOST_SHOWN], len(rows[MOST_SHOWN:]))


def is_number(cell: Any) -> bool:
    """Return whether a cell belongs to a column of numbers."""
    return cell is None or isinstance(cell, int | float)


def text(cell: Any) -> str:
    """Write a cell."""
    match cell:
        case None:
            return "-"
        case int() | float():
            return f"{cell:,}" if isinstance(cell, int) else f"{cell:,.1f}"
        case datetime():
            return clock(cell)
        case tuple():
            return ", ".join(cell) or "all"
        case Mapping():
            return ", ".join(f"{n} {name}" for name, n in cell.items())
    return str(cell)


def _jobs(jobs: Sequence[JobCount]) -> Grid:
    states = (*STATES, *sorted({job.state for job in jobs} - {*STATES}))
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for job in jobs:
        counts[job.step.value, job.category or "-"][job.state] += job.n
    rows = [
        (*kind, *(of_states[state] or None for state in states))
        for kind, of_states in counts.items()
    ]
    return Grid("Jobs, shared ones included", ("step", "category", *states), rows)
