"""The status for people: tables, a line for each campaign, and both again and again."""

from __future__ import annotations

import time
from contextlib import nullcontext, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.markup import escape

from launchers.console import out, simple_table
from launchers.status.grids import grids, is_number, text
from launchers.summary import funnel_table
from launchers.words import clock, counted, span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType
    from rich.table import Table

    from launchers.status.document import CampaignStatus, Status
    from launchers.status.grids import Grid


def print_status(status: Status) -> None:
    """Print everything about the campaigns."""
    out.print(_everything(status))


def watch(look: Callable[[], Status], seconds: float, *, as_json: bool = False) -> None:
    """Look again and again until Ctrl-C: redraw on a terminal, print lines elsewhere."""
    is_live = out.is_terminal and not as_json
    live = Live(console=out, auto_refresh=False, vertical_overflow="crop")
    with suppress(KeyboardInterrupt), live if is_live else nullcontext():
        while True:
            status = look()
            if is_live:
                live.update(_everything(status), refresh=True)
            elif as_json:
                print(status.model_dump_json(), flush=True)  # noqa: T201 - rich would wrap it
            else:
                for campaign in status.campaigns:
                    out.print(headline(campaign), soft_wrap=True)
            time.sleep(seconds)


def headline(status: CampaignStatus) -> str:
    """Tell in one line how far a campaign is and how long it takes."""
    done = f"{status.n_judged:,} of {status.n_wanted:,} structures judged"
    if status.n_judged > status.n_wanted:
        done += ", more than are asked for now"
    if status.n_given_up:
        done += f", {status.n_given_up:,} not found by the proposers"
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
    if not status.n_left:
        return "none left"
    if status.is_stuck:
        return f"{status.n_left:,} left"
    recent, seconds = status.recent, status.seconds_left
    within = span(timedelta(hours=recent.hours))
    if seconds is None:
        return f"{status.n_left:,} left, ETA unknown: none judged in the last {within}"
    return (
        f"{status.n_left:,} left, ETA {span(timedelta(seconds=seconds))}: "
        f"{recent.n_verdicts:,} judged in the last {within}; band gaps come on top"
    )


def _everything(status: Status) -> RenderableType:
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
    yield from map(_drawn, grids(status))
    for obstacle in status.obstacles:
        found, cure = escape(obstacle.found), escape(obstacle.cure)
        yield f"[yellow]note[/yellow] {found}: [bold]{cure}[/bold]"
    yield ""


def _as_of(status: CampaignStatus) -> str:
    if status.built_on is None and not status.n_unbuilt:
        return "no verdict yet"
    built = f"as of {clock(status.built_on)}" if status.built_on else "nothing built yet"
    if not status.n_unbuilt:
        return f"{built}; no verdict since"
    new = counted(status.n_unbuilt, "verdict")
    return f"{built}; {new} since, which [bold]--build[/bold] adds"


def _drawn(grid: Grid) -> Table:
    n_left = sum(not is_number(cell) for cell in grid.rows[0]) if grid.rows else len(grid.head)
    table = simple_table(*grid.head, title=grid.title, n_left=n_left)
    for row in grid.rows:
        table.add_row(*map(escape, map(text, row)))
    if grid.n_more:
        table.caption = f"and {grid.n_more} more: --json has all"
    return table
