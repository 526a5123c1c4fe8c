"""A whole campaign as units of work: references, training, known phases and shards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from jobflow import Flow

from flows.references import known_phases_job, reference_flow
from flows.sample import shard_job, shards
from flows.train import training_job

if TYPE_CHECKING:
    from collections.abc import Collection

    from gan_htvs.campaign import Campaign


@dataclass(frozen=True)
class Unit:
    """One small workflow, named by what it does so that it is never queued twice.

    Parameters
    ----------
    key
        uuid of the job whose output says that the unit has done its own work.
    flow
        The jobs to queue.
    needs
        uuids of jobs whose outputs must be stored before this unit may be queued.
    """

    key: str
    flow: Flow
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True)
class CampaignUnits:
    """The workflows of a campaign."""

    campaign: Campaign

    @cached_property
    def references(self) -> str:
        """Uuid of the job that assembles the reference set."""
        return reference_flow(self.campaign).jobs[-1].uuid

    @cached_property
    def training(self) -> str:
        """Uuid of the job that trains the generator."""
        return training_job(self.campaign).uuid

    @property
    def owners(self) -> list[str]:
        """Labels of all jobs of this campaign, shared ones included."""
        return [self.campaign.name, self.references, self.training]

    def units(self, done: Collection[str] = ()) -> list[Unit]:
        """Make all units; jobs whose uuids are in ``done`` have stored their output already."""
        campaign, references, training = self.campaign, self.references, self.training
        known = known_phases_job(campaign, references)
        sampling = [shard_job(campaign, s, training, references) for s in shards(campaign)]
        units = [
            Unit(references, reference_flow(campaign, done=done)),
            Unit(training, Flow([training_job(campaign)], name="train generator")),
            Unit(known.uuid, Flow([known], name=known.name), frozenset({references})),
        ]
        units += [
            Unit(each.uuid, Flow([each], name=each.name), frozenset({references, training}))
            for each in sampling
        ]
        return [unit for unit in units if unit.key not in done]
