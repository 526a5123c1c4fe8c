"""A whole campaign as units of work: references, training, known phases and shards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from jobflow import Flow

from flows.prescreen import reference_jobs
from flows.references import known_phases_job, known_phases_uuid, reference_flow
from flows.sample import shard_job, shard_uuid, shards
from flows.train import training_job
from gan_htvs.proposers import ProposerName

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from jobflow import Job

    from flows.sample import Shard
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
    frees
        The owner whose units may go on when this one has ended, if any wait for it.
    """

    key: str
    flow: Flow
    frees: str | None = None


@dataclass(frozen=True)
class CampaignUnits:
    """The workflows of a campaign."""

    campaign: Campaign

    @cached_property
    def reference_jobs(self) -> tuple[str, ...]:
        """Uuids of all jobs that the reference set is made by; the last one assembles it."""
        return reference_flow(self.campaign).job_uuids

    @property
    def references(self) -> str:
        """Uuid of the job that assembles the reference set."""
        return self.reference_jobs[-1]

    @cached_property
    def training(self) -> str | None:
        """Uuid of the job that trains the generator, if the campaign samples from one."""
        needed = ProposerName.GAN in self.campaign.sampling.proposers
        return training_job(self.campaign).uuid if needed else None

    @cached_property
    def known_phases(self) -> str:
        """Uuid of the job that sends the known phases through the gates."""
        return known_phases_uuid(self.campaign, self.references)

    @cached_property
    def _by_potentials(self) -> dict[str, Job]:
        """Jobs that relax the known phases for the prescreen, by uuid."""
        return {job.uuid: job for job in reference_jobs(self.campaign, self.references)}

    @property
    def shared(self) -> list[str]:
        """Uuids of the jobs that other campaigns may need too; labels of all that they run."""
        trained = [self.training] if self.training else []
        return [self.references, *self._by_potentials, *trained]

    @property
    def owners(self) -> list[str]:
        """Labels of all jobs of this campaign, shared ones included."""
        return [self.campaign.name, *self.shared]

    @property
    def needs(self) -> dict[str, frozenset[str]]:
        """Uuids of jobs whose outputs must be stored before a unit may be queued, by its key.

        Units stand in the order in which they are wanted. No job is made for it, which would take
        ten times longer.
        """
        campaign, references = self.campaign, self.references
        needs: dict[str, frozenset[str]] = {key: frozenset() for key in self.shared}
        needs[self.known_phases] = frozenset({references})
        for shard in shards(campaign):
            needs[shard_uuid(campaign, shard)] = self._needs_of(shard)
        return needs

    def is_shard(self, key: str) -> bool:
        """Whether the unit of this key counts among the shards that are at work at one time."""
        return key not in {*self.shared, self.known_phases}

    def _needs_of(self, shard: Shard) -> frozenset[str]:
        samples_gan = shard.proposer is ProposerName.GAN
        return frozenset(self.shared if samples_gan else {*self.shared} - {self.training})

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return len(shards(self.campaign))

    def units(self, done: Collection[str] = ()) -> Iterator[Unit]:
        """Make the units one after the other, in the order in which they are wanted.

        Units and jobs of references whose uuids are in ``done`` are left out.
        """
        campaign, references, training = self.campaign, self.references, self.training
        if references not in done:
            flow = reference_flow(campaign, done=done)
            yield Unit(references, flow, frees=references)
        for uuid, relaxing in self._by_potentials.items():
            if uuid not in done:
                yield Unit(uuid, Flow([relaxing], name=relaxing.name), frees=uuid)
        if training and training not in done:
            flow = Flow([training_job(campaign)], name="train generator")
            yield Unit(training, flow, frees=training)
        if self.known_phases not in done:
            known = known_phases_job(campaign, references)
            yield Unit(known.uuid, Flow([known], name=known.name))
        for shard in shards(campaign):
            if shard_uuid(campaign, shard) in done:
                continue
            sampling = shard_job(campaign, shard, training, references)
            flow = Flow([sampling], name=sampling.name)
            yield Unit(sampling.uuid, flow, frees=campaign.name)
