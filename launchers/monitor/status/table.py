"""The status as tables, and as one line for each campaign, once or repeatedly."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from contextlib import nullcontext, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live
from rich.markup import escape

from launchers.console.output import Grid, findings_table, funnel_table, grid_table, out
from launchers.console.quantities import clock, counted, span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from launchers.console.output import Cell
    from launchers.monitor.status.status_document import CampaignStatus, JobCount, Status

STATES = ("WAITING", "READY", "RESERVED", "RUNNING", "COMPLETED", "FIZZLED")
"""Always shown; others where there are any."""

MOST_SHOWN = 20
"""Workers and kinds of failure in the tables; the JSON document has all."""


def watch(look: Callable[[], Status], seconds: float, *, as_json: bool = False) -> None:
    """Look again and again until Ctrl-C: redraw on a terminal, print lines elsewhere."""
    is_live = out.is_terminal and not as_json
    live = Live(console=out, auto_refresh=False, vertical_overflow="crop")
    with suppress(KeyboardInterrupt), live if is_live else nullcontext():
        while True:
            status = look()
            if is_live:
                live.update(everything(status), refresh=True)
            elif as_json:
                print(status.model_dump_json(), flush=True)  # noqa: T201 - rich would wrap it
            else:
                for campaign in status.campaigns:
                    out.print(headline(campaign), soft_wrap=True)
            time.sleep(seconds)


def headline(status: CampaignStatus) -> str:
    """Tell in one line how far a campaign is and how long it takes."""
    done = f"{status.n_evaluated:,} of {status.n_requested:,} structures evaluated"
    if status.n_evaluated > status.n_requested:
        done += ", more than are asked for now"
    if status.n_not_proposed:
        done += f", {status.n_not_proposed:,} not found by the proposers"
    return f"[bold]{escape(status.name)}[/bold] {_state(status)}: {done}; {_eta(status)}"


def _state(status: CampaignStatus) -> str:
    if status.is_finished:
        return "[green]finished[/green]"
    if status.is_stuck:
        return "[bold red]stands still[/bold red]"
    n_running = status.count("RUNNING")
    if not n_running:
        return "[yellow]waits for workers[/yellow]"
    return f"runs {counted(n_running, 'job')}"


def _eta(status: CampaignStatus) -> str:
    """Say when the last structure is judged, and what that is made of."""
    if not status.n_remaining:
        return "none left"
    if status.is_stuck:
        return f"{status.n_remaining:,} left"
    recent, seconds = status.recent, status.seconds_remaining
    within = span(timedelta(hours=recent.hours))
    if seconds is None:
        return f"{status.n_remaining:,} left, ETA unknown: none judged in the last {within}"
    return (
        f"{status.n_remaining:,} left, ETA {span(timedelta(seconds=seconds))}: "
        f"{recent.n_verdicts:,} judged in the last {within}; band gaps come on top"
    )


def everything(status: Status) -> RenderableType:
    """Return all that is known of the campaigns, for the terminal."""
    parts = [part for each in status.campaigns for part in _parts(each)]
    parts += map(escape, status.unreadable)
    return Group(*parts, f"[dim]looked at {clock(status.checked_on)}[/dim]")


def _parts(status: CampaignStatus) -> Iterator[RenderableType]:
    yield headline(status)
    if status.began_on is not None:
        yield f"began {clock(status.began_on)}"
    yield ""
    yield funnel_table(status.campaign, status.funnel)
    if status.funnel.caveat is not None:
        yield status.funnel.caveat
    yield _as_of(status)
    yield ""
    yield from map(grid_table, grids(status))
    if status.findings:
        yield findings_table(status.findings)
    yield ""


def _as_of(status: CampaignStatus) -> str:
    if status.built_on is None and not status.n_unbuilt:
        return "no verdict yet"
    built = f"as of {clock(status.built_on)}" if status.built_on else "nothing built yet"
    if not status.n_unbuilt:
        return f"{built}; no verdict since"
    new = counted(status.n_unbuilt, "verdict")
    return f"{built}; {new} since, which [bold]--build[/bold] adds"


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
            head = [field.title or name.replace("_", " ") for name, field in fields.items()]
            rows = [[_cell(getattr(each, name)) for name in fields] for each in documents]
            yield Grid(title, head, rows[:MOST_SHOWN], len(rows[MOST_SHOWN:]))


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
    return Grid("Jobs, shared ones included", ("step", "category", *states), rows)
