"""The status for people: tables, a line for each campaign, and both again and again."""

from __future__ import annotations

import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from gan_htvs.candidate import Step
from launchers.console import out
from launchers.summary import funnel_table
from launchers.words import counted, span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from rich.console import RenderableType

    from launchers.status.document import (
        CampaignStatus,
        FailureCount,
        JobCount,
        Status,
        Throughput,
        WorkingHost,
    )

STATES = ("WAITING", "READY", "RESERVED", "RUNNING", "COMPLETED", "FIZZLED")
"""Always shown; others where there are any."""

MOST_SHOWN = 20
"""Workers and kinds of failure in the tables; the JSON document has all."""

SPANS = ("last hour", "last day", "since it began")


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
    recent, left = status.recent, status.time_left
    within = span(recent.duration)
    if left is None:
        return f"{status.n_left:,} left, ETA unknown: none judged in the last {within}"
    return (
        f"{status.n_left:,} left, ETA {span(left)}: {recent.n_verdicts:,} judged "
        f"in the last {within}; band gaps come on top"
    )


def _everything(status: Status) -> RenderableType:
    looked = f"[dim]looked at {_clock(status.checked_on)}[/dim]"
    return Group(*(part for each in status.campaigns for part in _parts(each)), looked)


def _parts(status: CampaignStatus) -> Iterator[RenderableType]:
    yield headline(status)
    if status.began_on is not None:
        yield f"began {_clock(status.began_on)}"
    if status.is_rehearsal:
        yield "a rehearsal: a stand-in takes the place of VASP, and no number below is a result"
    yield ""
    yield funnel_table(status.campaign, status.funnel)
    yield _as_of(status)
    yield ""
    yield _jobs(status.jobs)
    if status.workers:
        yield _workers(status.workers)
    yield _throughput(status.throughput)
    if status.failures:
        yield _failures(status.failures)
    for obstacle in status.obstacles:
        found, cure = escape(obstacle.found), escape(obstacle.cure)
        yield f"[yellow]note[/yellow] {found}: [bold]{cure}[/bold]"
    yield ""


def _as_of(status: CampaignStatus) -> str:
    if status.built_on is None and not status.n_unbuilt:
        return "no verdict yet"
    built = f"as of {_clock(status.built_on)}" if status.built_on else "nothing built yet"
    if not status.n_unbuilt:
        return f"{built}; no verdict since"
    new = counted(status.n_unbuilt, "verdict")
    return f"{built}; {new} since, which [bold]--build[/bold] adds"


def _jobs(jobs: Sequence[JobCount]) -> Table:
    others = sorted({job.state for job in jobs} - {*STATES})
    table = Table(title="Jobs, shared ones included", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("step")
    table.add_column("category")
    for state in (*STATES, *others):
        table.add_column(state, justify="right")
    for step in Step:
        for category in sorted({job.category or "" for job in jobs if job.step is step}):
            counts = [
                sum(
                    job.n
                    for job in jobs
                    if (job.step, job.category or "", job.state) == (step, category, state)
                )
                for state in (*STATES, *others)
            ]
            table.add_row(step.value, category or "-", *(f"{n:,}" if n else "-" for n in counts))
    return table


def _workers(workers: Sequence[WorkingHost]) -> Table:
    table = Table(title="At work", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("worker", "host", "batch job", "takes", "runs"):
        table.add_column(name, overflow="fold")
    table.add_column("since", no_wrap=True)
    table.add_column("last ping", no_wrap=True)
    for worker in workers[:MOST_SHOWN]:
        table.add_row(
            escape(worker.name),
            escape(worker.host),
            escape(worker.batch_job or "-"),
            escape(", ".join(worker.categories) or "all"),
            ", ".join(f"{n} {step}" for step, n in worker.steps.items()),
            _clock(worker.since),
            _clock(worker.last_ping),
        )
    _say_more(table, len(workers))
    return table


def _throughput(throughput: Sequence[Throughput]) -> Table:
    table = Table(title="Throughput", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("")
    for name in ("time", "jobs finished", "candidates judged", "candidates/h"):
        table.add_column(name, justify="right")
    for name, each in zip(SPANS, throughput, strict=True):
        rate = f"{each.verdicts_per_hour:,.1f}"
        table.add_row(name, span(each.duration), f"{each.n_jobs:,}", f"{each.n_verdicts:,}", rate)
    return table


def _failures(failures: Sequence[FailureCount]) -> Table:
    table = Table(title="Failures", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("n", justify="right")
    for name in ("what", "step", "reason", "for example"):
        table.add_column(name, overflow="fold")
    for each in failures[:MOST_SHOWN]:
        texts = map(escape, (each.kind, each.step, each.reason, each.example))
        table.add_row(f"{each.n:,}", *texts)
    _say_more(table, len(failures))
    return table


def _say_more(table: Table, n: int) -> None:
    if n > MOST_SHOWN:
        table.caption = f"and {n - MOST_SHOWN} more: --json has all"


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M %Z}"
