"""Print the status as tables or as one line for each campaign, once or repeatedly."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from contextlib import nullcontext, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live
from rich.markup import escape

from launchers.console.output import (
    Grid,
    findings_table,
    funnel_table,
    grid_table,
    out,
    rounds_grid,
)
from launchers.console.quantities import clock, counted, span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from launchers.console.output import Cell
    from launchers.monitor.status.status_document import CampaignStatus, JobCount, Status

STATES = ("WAITING", "READY", "RESERVED", "RUNNING", "COMPLETED", "FIZZLED")
"""States that are always shown; other states only if they have jobs."""

MOST_SHOWN = 20
"""Maximum number of rows in a table; the JSON document has all."""


def watch(read: Callable[[], Status], seconds: float, *, as_json: bool = False) -> None:
    """Print the status repeatedly until Ctrl-C.

    On a terminal the tables are redrawn; otherwise each time prints one line per campaign.
    """
    is_live = out.is_terminal and not as_json
    live = Live(console=out, auto_refresh=False, vertical_overflow="crop")
    with suppress(KeyboardInterrupt), live if is_live else nullcontext():
        while True:
            status = read()
            if is_live:
                live.update(status_tables(status), refresh=True)
            elif as_json:
                print(status.model_dump_json(), flush=True)  # noqa: T201 - rich would wrap it
            else:
                for campaign in status.campaigns:
                    out.print(headline(campaign), soft_wrap=True)
            time.sleep(seconds)


def headline(status: CampaignStatus) -> str:
    """Return the progress of a campaign and its remaining time in one line."""
    done = f"{status.n_evaluated:,} of {status.n_requested:,} structures evaluated"
    if status.n_evaluated > status.n_requested:
        done += ", more than requested now"
    if status.n_not_proposed:
        done += f", {status.n_not_proposed:,} not found by the proposers"
    return f"[bold]{escape(status.name)}[/bold] {_state(status)}: {done}; {_eta(status)}"


def _state(status: CampaignStatus) -> str:
    if status.is_finished:
        return "[green]finished[/green]"
    if status.is_stuck:
        return "[bold red]stuck[/bold red]"
    if n_running := status.count("RUNNING"):
        return f"running {counted(n_running, 'job')}"
    return "[yellow]waiting for workers[/yellow]"


def _eta(status: CampaignStatus) -> str:
    """Return the estimated time until all structures are evaluated, and the rate behind it."""
    if not status.n_remaining:
        return "none left"
    left = f"{status.n_remaining:,} left"
    if status.is_stuck:
        return left
    recent, seconds = status.recent, status.seconds_remaining
    within = span(timedelta(hours=recent.hours))
    if seconds is None:
        return f"{left}, ETA unknown: none evaluated in the last {within}"
    eta = span(timedelta(seconds=seconds))
    done = f"{recent.n_verdicts:,} evaluated in the last {within}"
    return f"{left}, ETA {eta}: {done}; without band gaps"


def status_tables(status: Status) -> RenderableType:
    """Return the status of all campaigns for the terminal."""
    parts = [part for campaign in status.campaigns for part in _parts(campaign)]
    parts += map(escape, status.unreadable)
    return Group(*parts, f"[dim]checked {clock(status.checked_on)}[/dim]")


def _parts(status: CampaignStatus) -> Iterator[RenderableType]:
    yield headline(status)
    if status.began_on is not None:
        yield f"started {clock(status.began_on)}"
    yield ""
    yield funnel_table(status.campaign, status.funnel)
    yield from map(escape, status.source_notes)
    if status.funnel.hull_warning is not None:
        yield status.funnel.hull_warning
    if (warning := status.campaign.references.completeness_warning) is not None:
        yield warning
    if status.funnel.implausible_warning is not None:
        yield status.funnel.implausible_warning
    if status.funnel.caveat is not None:
        yield status.funnel.caveat
    if status.funnel.p1_note is not None:
        yield status.funnel.p1_note
    if status.rounds.stopped is not None:
        yield escape(status.rounds.stopped)
    yield _as_of(status)
    yield ""
    if status.rounds.counts:
        yield grid_table(rounds_grid(status.rounds))
    yield from map(grid_table, grids(status))
    if status.findings:
        yield findings_table(status.findings)
    yield ""


def _as_of(status: CampaignStatus) -> str:
    if status.built_on is None and not status.n_unbuilt:
        return "no verdict yet"
    built = f"as of {clock(status.built_on)}" if status.built_on else "nothing built yet"
    if not status.n_unbuilt:
        return f"{built}; no verdict since then"
    new = counted(status.n_unbuilt, "verdict")
    return f"{built}; {new} since then, add with [bold]--build[/bold]"


def grids(status: CampaignStatus) -> Iterator[Grid]:
    """Yield the tables of a campaign; most have one row per document and one column per field."""
    yield _jobs(status.jobs)
    for table in ("workers", "throughput", "failures"):
        if documents := getattr(status, table):
            kind = type(documents[0])
            fields = kind.model_fields | kind.model_computed_fields
            head = [field.title or name.replace("_", " ") for name, field in fields.items()]
            rows = [[_cell(getattr(doc, name)) for name in fields] for doc in documents]
            yield Grid(table.capitalize(), head, rows[:MOST_SHOWN], len(rows[MOST_SHOWN:]))


def _cell(value: Any) -> Cell:
    if isinstance(value, tuple):
        return ", ".join(value) or "all"
    if isinstance(value, dict):
        return ", ".join(f"{n} {name}" for name, n in value.items())
    return value


def _jobs(jobs: Sequence[JobCount]) -> Grid:
    states = (*STATES, *sorted({job.state for job in jobs} - {*STATES}))
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for job in jobs:
        counts[job.step.value, job.category or "-"][job.state] += job.n
    rows = [
        (*kind, *(of_states[state] or None for state in states))
        for kind, of_states in counts.items()
    ]
    return Grid("Jobs, including shared ones", ("step", "category", *states), rows)
