"""What feeds a launchpad: units of work, queued when they can start, and a bounded number of them.

Nothing watches a campaign. Whoever submits it feeds the launchpad once; then each workflow that
others wait for, and each shard, ends with a Firework that feeds it again.
"""

from __future__ import annotations

from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from fireworks import FiretaskBase, Firework, Workflow, explicit_serialize
from jobflow.managers.fireworks import flow_to_workflow

from flows.campaign import CampaignUnits
from flows.routing import routed
from gan_htvs.candidate import Step
from gan_htvs.errors import UserError
from launchers.database import Databases
from launchers.registry import shards_at_once_of, submissions

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping

    from flows.campaign import Unit
    from gan_htvs.campaign import Campaign
    from launchers.launchpad import CampaignLaunchPad

BATCH = 50
"""Workflows that are added in one go."""


def submit(
    launchpad: CampaignLaunchPad,
    units: Iterable[Unit],
    campaign: Campaign,
    on_progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Queue the units that are not queued yet, and return how many that were.

    Parameters
    ----------
    launchpad
        Where.
    units
        Asked for, and forgotten, a batch at a time, while nobody else feeds this launchpad.
    campaign
        Whose units they are.
    on_progress
        Called with the number of units queued so far.
    """
    added = 0
    several = iter(units)
    with launchpad.sole_feeder() as note_down:
        while batch := list(islice(several, BATCH)):
            queued = launchpad.queued(unit.key for unit in batch)
            new = {unit.key: unit for unit in batch if unit.key not in queued}
            if new:
                note_down(list(new))
                with redirect_stderr(StringIO()):  # FireWorks draws a bar for every batch
                    launchpad.bulk_add_wfs([_workflow(unit, campaign) for unit in new.values()])
            added += len(new)
            on_progress(added)
    return added


@explicit_serialize
class ReleaseTask(FiretaskBase):
    """Feed all campaigns that have waited for this owner's work."""

    required_params = ("owner",)

    def run_task(self, _spec: dict[str, Any]) -> None:
        """Feed the launchpad that the task was taken from."""
        feed_all(Databases.of(self.launchpad), self["owner"])


def _workflow(unit: Unit, campaign: Campaign) -> Workflow:
    """Make the workflow of a unit, with the release of what waits for it at its end."""
    metadata = {"unit": unit.key, "campaign": campaign.name}
    workflow = flow_to_workflow(
        unit.flow,
        store=None,  # a store given here would be copied, password and all, into the job
        allow_external_references=True,
        metadata=metadata,
    )
    if unit.frees is None:
        return workflow
    spec = {
        "campaign": unit.frees,
        "step": Step.RELEASE.value,
        "_add_launchpad_and_fw_id": True,
        "_allow_fizzled_parents": True,
        **routed(campaign.routing.other, Step.RELEASE),
    }
    leaves = [workflow.id_fw[fw_id] for fw_id in workflow.leaf_fw_ids]
    release = Firework([ReleaseTask(owner=unit.frees)], spec=spec, name="release", parents=leaves)
    return Workflow([*workflow.fws, release], name=workflow.name, metadata=metadata)


class Backlog(NamedTuple):
    """The units of a campaign that are not stored yet, counted."""

    queued: int
    """On the launchpad."""
    ready: int
    """Could be queued now."""
    later: int
    """Shards that are queued when others end."""
    waiting: int
    """Need the output of another unit first."""

    @property
    def missing(self) -> int:
        """Not on the launchpad."""
        return self.ready + self.later + self.waiting


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
        return submit(self.launchpad, self._startable(), self.campaign, on_progress)

    def backlog(self) -> Backlog:
        """Count the units that are not stored yet, and queue nothing."""
        unfinished = self._unfinished()
        queued = self.launchpad.queued(unfinished)
        able, ready = self._able(unfinished, queued)
        n_waiting = len(unfinished) - len(queued) - len(able)
        return Backlog(len(queued), len(ready), len(able) - len(ready), n_waiting)

    def _unfinished(self) -> dict[str, frozenset[str]]:
        """Give the needs of the units that are not stored; they are names, and take no room."""
        needs = self.units.needs
        stored = self.databases.stored(needs)
        return {key: needed for key, needed in needs.items() if key not in stored}

    def _able(
        self, unfinished: Mapping[str, frozenset[str]], queued: Container[str]
    ) -> tuple[list[str], list[str]]:
        """Find the units that need nothing more, and those of them that there is room for."""
        stored = self.databases.stored(self.units.shared)
        able = [key for key, needs in unfinished.items() if key not in queued and needs <= stored]
        bound = shards_at_once_of(self.databases, self.campaign.name)
        room = max(0, bound - self.launchpad.n_open_shards(self.campaign.name))
        others = [key for key in able if not self.units.is_shard(key)]
        return able, others + [key for key in able if self.units.is_shard(key)][:room]

    def _startable(self) -> Iterator[Unit]:
        """Make the units that may be queued, one after the other.

        A generator: it looks at what is queued when the first unit is asked for.
        """
        unfinished = self._unfinished()
        _, ready = self._able(unfinished, self.launchpad.queued(unfinished))
        stored = self.databases.stored(self.units.reference_jobs)
        yield from self.units.units(done=stored | (self.units.needs.keys() - set(ready)))


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

    Raises
    ------
    UserError
        If one of them cannot be fed; the others were.
    """
    added, problems = 0, []
    for campaign, submission in submissions(databases):
        if submission and (owner is None or owner in submission["owners"]):
            try:
                added += Feeder(campaign, databases).feed()
            except UserError as error:
                problems.append(f"campaign {campaign.name}: {error}")
    if problems:
        raise UserError(" ".join(problems))
    return added
