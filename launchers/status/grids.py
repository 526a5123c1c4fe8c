"""The tables of a status, for a terminal or a web page."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from launchers.words import clock, span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from launchers.status.document import CampaignStatus, JobCount

Cell = str | int | float | datetime | None
STATES = ("WAITING", "READY", "RESERVED", "RUNNING", "COMPLETED", "FIZZLED")
"""Always shown; others where there are any."""

MOST_SHOWN = 20
"""Workers and kinds of failure in the tables; the JSON document has all."""

SPANS = ("last hour", "last day", "since it began")


class Grid(NamedTuple):
    """A table: whole numbers are counts, others have one decimal, None is no number."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    n_more: int = 0
    """Rows that are left out."""


def grids(status: CampaignStatus) -> Iterator[Grid]:
    """Make the tables of a campaign."""
    head: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    yield _jobs(status.jobs)
    if status.workers:
        head = ("worker", "host", "batch job", "takes", "runs", "since", "last ping")
        rows = [
            (
                worker.name,
                worker.host,
                worker.batch_job or "-",
                ", ".join(worker.categories) or "all",
                ", ".join(f"{n} {step}" for step, n in worker.steps.items()),
                worker.since,
                worker.last_ping,
            )
            for worker in status.workers
        ]
        yield Grid("At work", head, rows[:MOST_SHOWN], len(rows[MOST_SHOWN:]))
    head = ("", "time", "jobs finished", "candidates judged", "candidates/h")
    rows = [
        (
            name,
            span(timedelta(hours=each.hours)),
            each.n_jobs,
            each.n_verdicts,
            each.verdicts_per_hour,
        )
        for name, each in zip(SPANS, status.throughput, strict=True)
    ]
    yield Grid("Throughput", head, rows)
    if status.failures:
        head = ("n", "what", "step", "reason", "for example")
        rows = [
            (each.n, each.kind, each.step, each.reason, each.example) for each in status.failures
        ]
        yield Grid("Failures", head, rows[:MOST_SHOWN], len(rows[MOST_SHOWN:]))


def is_number(cell: Cell) -> bool:
    """Whether a cell belongs to a column of numbers."""
    return cell is None or isinstance(cell, int | float)


def text(cell: Cell) -> str:
    """Write a cell."""
    match cell:
        case None:
            return "-"
        case int():
            return f"{cell:,}"
        case float():
            return f"{cell:,.1f}"
        case datetime():
            return clock(cell)
    return cell


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
