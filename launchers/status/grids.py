"""The tables of a status, whoever draws them: a terminal, or a web page."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from gan_htvs.candidate import Step
from launchers.words import clock, span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from launchers.status.document import (
        CampaignStatus,
        FailureCount,
        JobCount,
        Throughput,
        WorkingHost,
    )

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
    yield _jobs(status.jobs)
    if status.workers:
        yield _workers(status.workers)
    yield _throughput(status.throughput)
    if status.failures:
        yield _failures(status.failures)


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
    counts = Counter[tuple[Step, str | None, str]]()
    for job in jobs:
        counts[job.step, job.category, job.state] += job.n
    order = list(Step)
    kinds = sorted(
        {key[:2] for key in counts}, key=lambda kind: (order.index(kind[0]), kind[1] or "")
    )
    rows = [
        (step.value, category or "-", *(counts[step, category, state] or None for state in states))
        for step, category in kinds
    ]
    return Grid("Jobs, shared ones included", ("step", "category", *states), rows)


def _workers(workers: Sequence[WorkingHost]) -> Grid:
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
        for worker in workers[:MOST_SHOWN]
    ]
    return Grid("At work", head, rows, max(len(workers) - MOST_SHOWN, 0))


def _throughput(throughput: Sequence[Throughput]) -> Grid:
    head = ("", "time", "jobs finished", "candidates judged", "candidates/h")
    rows = [
        (name, span(each.duration), each.n_jobs, each.n_verdicts, each.verdicts_per_hour)
        for name, each in zip(SPANS, throughput, strict=True)
    ]
    return Grid("Throughput", head, rows)


def _failures(failures: Sequence[FailureCount]) -> Grid:
    head = ("n", "what", "step", "reason", "for example")
    rows = [
        (each.n, each.kind, each.step, each.reason, each.example) for each in failures[:MOST_SHOWN]
    ]
    return Grid("Failures", head, rows, max(len(failures) - MOST_SHOWN, 0))
