"""Queue a campaign."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from launchers.launchpad.builders import ensure_indexes
from launchers.launchpad.feeder import Backlog, Feeder, submit
from launchers.launchpad.registry import register, workflows_at_once_of
from launchers.monitor.missing_properties import missing_properties

if TYPE_CHECKING:
    from collections.abc import Callable

    from gan_htvs.campaign.model import Campaign
    from launchers.launchpad.database import Databases


class Submission(NamedTuple):
    """Result of a submission."""

    n_queued: int
    """Workflows that were queued."""
    n_properties: int
    """Workflows among them that compute missing properties."""
    backlog: Backlog
    """Remaining work."""
    workflows_at_once: int
    """Maximum number of unfinished workflows on the launchpad."""


def submit_campaign(
    campaign: Campaign,
    databases: Databases,
    *,
    extend: bool = False,
    workflows_at_once: int | None = None,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> Submission:
    """Queue the workflows that can start; finished workflows release those that depend on them.

    Parameters
    ----------
    campaign
        Campaign to queue.
    databases
        Databases of launchpad and outputs.
    extend
        Whether settings that may change, such as stages, may differ from the previous
        submission.
    workflows_at_once
        Maximum number of unfinished workflows on the launchpad; None: unchanged.
    on_progress
        Called with the number of workflows queued so far, and the number of all that can start.

    Raises
    ------
    UserError
        If a campaign of this name was submitted with other settings.
    """
    register(campaign, databases, extend=extend, workflows_at_once=workflows_at_once)
    feeder = Feeder(campaign, databases)
    feeder.launchpad.initialize()
    ensure_indexes(databases)
    total = feeder.backlog().ready
    n_added = feeder.feed(lambda n: on_progress(n, max(n, total)))
    n_properties = submit(feeder.launchpad, missing_properties(campaign, databases), campaign)
    bound = workflows_at_once_of(databases, campaign.name)
    return Submission(n_added + n_properties, n_properties, feeder.backlog(), bound)
