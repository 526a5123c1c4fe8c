"""Queue a campaign, or print what would be queued."""

from __future__ import annotations

from typing import TYPE_CHECKING

from launchers import console
from launchers.builders import ensure_indexes
from launchers.estimate import estimate, print_estimate
from launchers.feeder import Feeder, submit
from launchers.gaps import missing_gaps
from launchers.registry import check_changes, register, workflows_at_once_of
from launchers.words import counted

if TYPE_CHECKING:
    from gan_htvs.campaign import Campaign
    from launchers.database import Databases


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
        Upper bound of unfinished workflows on the launchpad; None: as before.

    Raises
    ------
    UserError
        If a campaign of this name was submitted with other settings.
    """
    register(campaign, databases, extend=extend, workflows_at_once=workflows_at_once)
    feeder = Feeder(campaign, databases)
    launchpad = feeder.launchpad
    launchpad.initialise()
    ensure_indexes(databases)
    with console.WorkProgress() as show:
        total = feeder.backlog().ready
        added = feeder.feed(lambda n: show("queueing", n, max(n, total)))
    gaps = submit(launchpad, missing_gaps(campaign, databases), campaign)
    backlog = feeder.backlog()
    console.out.print(
        f"{counted(added + gaps, 'workflow')} queued"
        + (f", {gaps} of them for missing band gaps" if gaps else "")
        + f"; {backlog.queued} unfinished ones of {campaign.name} are on the launchpad."
    )
    if backlog.waiting:
        console.out.print(
            f"{backlog.waiting} need references or checkpoint, and are queued when these exist."
        )
    if backlog.later:
        bound = workflows_at_once_of(databases, campaign.name)
        console.out.print(
            f"{counted(backlog.later, 'workflow')} follow when others end: {bound} at one time."
        )
    if not backlog.queued + backlog.missing:
        console.out.print("Everything is done.")
    console.out.print(
        f"Next: [bold]gan-htvs queue init[/bold], [bold]gan-htvs qlaunch[/bold], then "
        f"[bold]gan-htvs status {campaign.name}[/bold]"
    )


def print_plan(
    campaign: Campaign, databases: Databases, *, cores_per_node: int, extend: bool = False
) -> None:
    """Print what would be queued and an estimate of its cost; write nothing.

    Parameters
    ----------
    campaign
        Campaign to count.
    databases
        Databases with finished work and durations of jobs.
    cores_per_node
        Jobs that a node of category ``cpu`` runs at once.
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
        f"{counted(backlog.later, 'workflow')} as others end, {backlog.waiting} when references or "
        f"checkpoint exist; {backlog.queued} unfinished ones are on the launchpad."
    )
    print_estimate(estimate(campaign, databases), cores_per_node)
