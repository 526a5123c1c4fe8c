"""Queue a campaign, or print its plan and estimated cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gan_htvs.campaign.routing import Category
from launchers.console import output as console
from launchers.console.quantities import counted
from launchers.launchpad.builders import ensure_indexes
from launchers.launchpad.feeder import Feeder, submit
from launchers.launchpad.registry import check_changes, register, workflows_at_once_of
from launchers.monitor.gaps import missing_gaps
from launchers.queue.estimate import estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gan_htvs.campaign.model import Campaign
    from launchers.launchpad.database import Databases
    from launchers.queue.estimate import Estimate


def submit_campaign(
    campaign: Campaign,
    databases: Databases,
    *,
    extend: bool = False,
    workflows_at_once: int | None = None,
) -> None:
    """Queue the workflows that can start; finished workflows release those that depend on them.

    Parameters
    ----------
    campaign
        Campaign to queue.
    databases
        Databases of launchpad and outputs.
    extend
        Whether settings that may change, such as thresholds, may differ from the previous
        submission.
    workflows_at_once
        Maximum number of unfinished workflows on the launchpad; None: unchanged.

    Raises
    ------
    UserError
        If a campaign of this name was submitted with other settings.
    """
    register(campaign, databases, extend=extend, workflows_at_once=workflows_at_once)
    feeder = Feeder(campaign, databases)
    launchpad = feeder.launchpad
    launchpad.initialize()
    ensure_indexes(databases)
    with console.WorkProgress() as show:
        total = feeder.backlog().ready
        added = feeder.feed(lambda n: show("queueing", n, max(n, total)))
    gaps = submit(launchpad, missing_gaps(campaign, databases), campaign)
    backlog = feeder.backlog()
    console.out.print(
        f"{counted(added + gaps, 'workflow')} queued"
        + (f", including {gaps} for missing band gaps" if gaps else "")
        + f"; {campaign.name} has {counted(backlog.queued, 'unfinished workflow')} on the "
        "launchpad."
    )
    if backlog.waiting:
        console.out.print(
            f"{counted(backlog.waiting, 'workflow')} will be queued when references and checkpoint "
            "exist."
        )
    if backlog.later:
        bound = workflows_at_once_of(databases, campaign.name)
        console.out.print(
            f"{counted(backlog.later, 'workflow')} will be queued as others finish, at most "
            f"{bound} at a time."
        )
    if not backlog.queued + backlog.missing:
        console.out.print("All work is done.")
    console.out.print(
        f"Next: [bold]gan-htvs queue init[/bold], [bold]gan-htvs qlaunch[/bold], then "
        f"[bold]gan-htvs status {campaign.name}[/bold]"
    )


def print_plan(
    campaign: Campaign, databases: Databases, *, cores_per_node: int, extend: bool = False
) -> None:
    """Print the workflows that would be queued and their estimated cost; write nothing.

    Parameters
    ----------
    campaign
        Campaign to count.
    databases
        Databases with finished work and wall times of jobs.
    cores_per_node
        Number of jobs that a node of category ``cpu`` runs at the same time.
    extend
        As in :func:`submit_campaign`.

    Raises
    ------
    UserError
        As in :func:`submit_campaign`.
    """
    check_changes(campaign, databases, extend=extend)
    backlog = Feeder(campaign, databases).backlog()
    console.out.print(
        f"{campaign.name}: {counted(backlog.ready, 'workflow')} would be queued now, "
        f"{counted(backlog.later, 'workflow')} as others finish, {backlog.waiting} when references "
        f"and checkpoint exist; {counted(backlog.queued, 'unfinished workflow')} on the launchpad."
    )
    print_estimate(estimate(campaign, databases), cores_per_node)


def print_estimate(estimates: Sequence[Estimate], cores_per_node: int) -> None:
    """Print the estimate and its totals.

    A job of category ``cpu`` uses one core, a job of any other category one node.
    """
    head = ("step", "category", "source", "jobs", "s per job", "hours")
    cells = [
        (
            row.kind.step,
            row.kind.category,
            "; ".join(filter(None, (row.source, row.n_source))),
            round(row.n_jobs),
            row.seconds,
            row.hours,
        )
        for row in estimates
    ]
    console.out.print(console.grid_table(console.Grid("Estimate", head, cells)))
    for category in dict.fromkeys(row.kind.category for row in estimates):
        rows = [row for row in estimates if row.kind.category is category]
        hours = sum(row.hours or 0 for row in rows)
        n_at_once = cores_per_node if category is Category.CPU else 1
        unknown = ", ".join(row.kind.step for row in rows if row.hours is None)
        console.out.print(
            f"{category}: {hours:,.1f} hours, or {hours / n_at_once:,.1f} node-hours with "
            f"{counted(n_at_once, 'job')} per node at a time"
            + (f"; excluding {unknown} (not measured yet)" if unknown else "")
        )
