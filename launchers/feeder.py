"""What feeds a launchpad: units of work, queued when they can start, and a bounded number of them.

Nothing watches a campaign. Whoever submits it feeds the launchpad once; then each workflow that
others wait for, and each shard, ends with a Firework that feeds it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from flows.campaign import CampaignUnits
from launchers.registry import SHARDS_AT_ONCE, submissions, submitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from flows.campaign import Unit
    from gan_htvs.campaign import Campaign
    from launchers.database import Databases
    from launchers.launchpad import CampaignLaunchPad


class Backlog(NamedTuple):
    """The units of a campaign that are not stored yet, counted."""

    queued: int
    """On the launchpad."""
    ready: int
    """Could be queued now."""
    waiting: int
    """Need the output of another unit first."""

    @property
    def missing(self) -> int:
        """Not on the launchpad."""
        return self.ready + self.waiting


@dataclass(frozen=True)
class Feeder:
    """Queues the units of one campaign.

    Parameters
    ----------
    campaign
        Must be registered in these databases.
    databases
        Where the launchpad and the outputs are.
    """

    campaign: Campaign
    databases: Databases

    @cached_property
    def launchpad(self) -> CampaignLaunchPad:
        """The launchpad that is fed."""
        return self.databases.launchpad()

    @cached_property
    def units(self) -> CampaignUnits:
        """The campaign as units of work."""
        return CampaignUnits(self.campaign)

    def feed(self, on_progress: Callable[[int], None] = lambda _: None) -> int:
        """Queue the units whose needs are stored and that are not queued yet.

        Shards are queued only as long as fewer than ``shards_at_once`` of the campaign have not
        ended. Feeding twice, or in two processes, queues nothing twice.

        Parameters
        ----------
        on_progress
            Called with the number of units queued so far.

        Returns
        -------
        Number of units that were queued.
        """
        return self.launchpad.submit(self._startable(), self.campaign, on_progress)

    def backlog(self) -> Backlog:
        """Count the units that are not stored yet, and queue nothing."""
        unfinished = list(self._unfinished())
        keys = {key for key, _ in unfinished}
        queued = self.launchpad.queued(keys)
        stored = self._stored(self.units.shared)
        ready = sum(needs <= stored for key, needs in unfinished if key not in queued)
        return Backlog(len(queued), ready, len(keys - queued) - ready)

    def _unfinished(self) -> Iterator[tuple[str, frozenset[str]]]:
        """Keys and needs of the units that are not stored; they are names, and take no room."""
        named = [(unit.key, unit.needs) for unit in self.units.units()]
        stored = self._stored(key for key, _ in named)
        return (each for each in named if each[0] not in stored)

    def _startable(self) -> Iterator[Unit]:
        """Make the units that may be queued, one after the other.

        A generator: it looks at what is queued when the first unit is asked for.
        """
        unfinished = dict(self._unfinished())
        queued = self.launchpad.queued(unfinished)
        stored = self._stored({*self.units.reference_jobs, *self.units.shared})
        room = submitted(self.databases, self.campaign.name).get("shards_at_once", SHARDS_AT_ONCE)
        room -= self.launchpad.n_open_shards(self.campaign.name)
        for unit in self.units.units(done=stored):
            if unit.key not in unfinished or unit.key in queued or not unit.needs <= stored:
                continue
            if unit.is_shard:
                if room <= 0:
                    return
                room -= 1
            yield unit

    def _stored(self, uuids: Iterable[str]) -> set[str]:
        """Find which of these jobs have left their output."""
        with self.databases.store("outputs", key="uuid") as outputs:
            return {
                document["uuid"]
                for document in outputs.query({"uuid": {"$in": sorted(set(uuids))}}, ["uuid"])
            }


def feed_all(databases: Databases, owner: str | None = None) -> int:
    """Feed every campaign that was submitted.

    Parameters
    ----------
    databases
        Where they are.
    owner
        Only those that it works for: a campaign of this name, or all that share its job.

    Returns
    -------
    Number of units that were queued.
    """
    return sum(
        Feeder(campaign, databases).feed()
        for campaign, submission in submissions(databases)
        if submission and (owner is None or owner in submission["owners"])
    )
