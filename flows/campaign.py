"""A whole campaign as units of work: references and training, then known phases and shards."""

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
    """

    key: str
    flow: Flow


@dataclass(frozen=True)
class CampaignUnits:
    """The workflows of a campaign: ``foundations`` must be done before ``searches`` start."""

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

    def foundations(self, done: Collection[str] = ()) -> list[Unit]:
        """Make the reference and training units; ``done`` holds uuids of stored outputs."""
        training = training_job(self.campaign)
        return [
            Unit(self.references, reference_flow(self.campaign, done=done)),
            Unit(self.training, Flow([training], name="train generator")),
        ]

    def searches(self) -> list[Unit]:
        """Known phases and every shard."""
        jobs = [known_phases_job(self.campaign, self.references)]
        jobs += [
            shard_job(self.campaign, shard, self.training, self.references)
            for shard in shards(self.campaign)
        ]
        return [Unit(job.uuid, Flow([job], name=job.name)) for job in jobs]
