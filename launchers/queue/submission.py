"""Queue a campaign."""

from __future__ import annotations

from typing import TYPE_CHECKING

from launchers.console import output as console
from launchers.console.quantities import counted
from launchers.launchpad.builders import ensure_indexes
from launchers.launchpad.feeder import Feeder, submit
from launchers.launchpad.registry import register, workflows_at_once_of
from launchers.monitor.gaps import missing_gaps

if TYPE_CHECKING:
    from gan_htvs.campaign.model import Campaign
    from launchers.launchpad.database import Databases


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
