"""Output of ``gan-htvs submit`` and table of ``gan-htvs rehearse``."""

from __future__ import annotations

from dataclasses import astuple
from functools import partial
from typing import TYPE_CHECKING

from gan_htvs.campaign.routing import Category
from launchers.cli.campaign_summary import print_cells
from launchers.console.output import Grid, WorkProgress, findings_table, grid_table, out
from launchers.console.quantities import counted
from launchers.launchpad.feeder import Feeder
from launchers.launchpad.registry import check_changes
from launchers.monitor.status.survey import survey
from launchers.queue.estimate import estimate
from launchers.queue.submission import submit_campaign

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gan_htvs.campaign.model import Campaign
    from launchers.launchpad.database import Databases
    from launchers.queue.estimate import Estimate
    from launchers.rehearsal.counts import StageCount


def submit_and_print(
    campaign: Campaign, databases: Databases, *, extend: bool, workflows_at_once: int | None
) -> bool:
    """Queue a campaign and print what was queued; parameters as in :func:`submit_campaign`.

    Returns
    -------
    Whether work is left and no job can run.
    """
    with WorkProgress() as progress:
        submission = submit_campaign(
            campaign,
            databases,
            extend=extend,
            workflows_at_once=workflows_at_once,
            on_progress=partial(progress, "queueing"),
        )
    n_missing, backlog = submission.n_properties, submission.backlog
    out.print(
        f"{counted(submission.n_queued, 'workflow')} queued"
        + (f", including {n_missing} for missing properties" if n_missing else "")
        + f"; {campaign.name} has {counted(backlog.queued, 'unfinished workflow')} on the "
        "launchpad."
    )
    bound = f"at most {submission.workflows_at_once} at a time"
    for n, when in (
        (backlog.waiting, "when references and checkpoint exist"),
        (backlog.later, f"as others finish, {bound}"),
    ):
        if n:
            out.print(f"{counted(n, 'workflow')} will be queued {when}.")
    (status,) = survey(databases, campaign.name).campaigns
    if status.is_finished:
        out.print("All work is done.")
    if status.findings:
        out.print(findings_table(status.findings))
    if status.is_stuck:
        return True
    out.print(
        f"Next: [bold]gan-htvs queue init[/bold], [bold]gan-htvs qlaunch[/bold], then "
        f"[bold]gan-htvs status {campaign.name}[/bold]"
    )
    return False


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
        As in :func:`launchers.queue.submission.submit_campaign`.

    Raises
    ------
    UserError
        As in :func:`launchers.queue.submission.submit_campaign`.
    """
    check_changes(campaign, databases, extend=extend)
    print_cells(campaign)
    backlog = Feeder(campaign, databases).backlog()
    out.print(
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
            row.step,
            row.category,
            "; ".join(filter(None, (row.source, row.n_source))),
            round(row.n_jobs),
            row.seconds,
            row.hours,
        )
        for row in estimates
    ]
    out.print(grid_table(Grid("Estimate", head, cells)))
    for category in dict.fromkeys(row.category for row in estimates):
        rows = [row for row in estimates if row.category is category]
        hours = sum(row.hours or 0 for row in rows)
        n_at_once = cores_per_node if category is Category.CPU else 1
        unknown = ", ".join(row.step for row in rows if row.hours is None)
        out.print(
            f"{category}: {hours:,.1f} hours, or {hours / n_at_once:,.1f} node-hours with "
            f"{counted(n_at_once, 'job')} per node at a time"
            + (f"; excluding {unknown} (not measured yet)" if unknown else "")
        )


def print_counts(counts: Iterable[StageCount]) -> None:
    """Print the table of all stages."""
    head = ("stage", "calculations", "failed", "with corrected errors", "ionic steps")
    out.print(grid_table(Grid("Calculations", head, [astuple(count) for count in counts])))
