"""A whole campaign as units of work: references, training, known phases and shards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from jobflow import Flow

from flows.references import known_phases_job, reference_flow
from flows.sample import shard_job, shards
from flows.train import training_job
from gan_htvs.proposers import ProposerName

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
    def training(self) -> str | None:
        """Uuid of the job that trains the generator, if the campaign samples from one."""
        needed = ProposerName.GAN in self.campaign.sampling.proposers
        return training_job(self.campaign).uuid if needed else None

    @property
    def shared(self) -> list[str]:
        """Uuids of the jobs that other campaigns may need too; labels of all that they run."""
        return [self.references, *([self.training] if self.training else [])]

    @property
    def owners(self) -> list[str]:
        """Labels of all jobs of this campaign, shared ones included."""
        return [self.campaign.name, *self.shared]

    def units(self, done: Collection[str] = ()) -> list[Unit]:
        """Make all units; jobs whose uuids are in ``done`` have stored their output already."""
        campaign, references, training = self.campaign, self.references, self.training
        known = known_phases_job(campaign, references)
        units = [
            Unit(references, reference_flow(campaign, done=done)),
            Unit(known.uuid, Flow([known], name=known.name), frozenset({references})),
        ]
        if training:
            units.append(Unit(training, Flow([training_job(campaign)], name="train generator")))
        for shard in shards(campaign):
            sampling = shard_job(campaign, shard, training, references)
            samples_gan = shard.proposer is ProposerName.GAN
            needs = self.shared if samples_gan else [references]
            flow = Flow([sampling], name=sampling.name)
            units.append(Unit(sampling.uuid, flow, frozenset(needs)))
        return [unit for unit in units if unit.key not in done]
