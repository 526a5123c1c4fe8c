"""Divide a campaign into small workflows with unique keys, which prevent queueing them twice.

Stage one consists of references, training, and the jobs of each composition up to the selection.
Stage two is built from stored selections and references; each of its workflows evaluates at most
``CHUNK`` candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from jobflow import Flow, Job
from jobflow.core.reference import find_and_resolve_references
from maggma.utils import grouper

from flows.campaign import CampaignFlows, compositions_of
from flows.proposals import own_proposals
from flows.references import reference_survivors
from gan_htvs.core.document import decode
from gan_htvs.core.hashing import content_uuid
from gan_htvs.core.stages import Step
from gan_htvs.prescreen.documents import Survivor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gan_htvs.campaign.model import Campaign
    from launchers.launchpad.database import Databases

CHUNK = 50
"""Largest number of candidates in one workflow; FireWorks is slow for large workflows."""


@dataclass(frozen=True)
class Unit:
    """A workflow with a unique key.

    Parameters
    ----------
    key
        Key of the unit on the launchpad. For references, training and compositions it is the uuid
        of the job whose output completes the unit.
    flow
        Jobs to queue.
    releases
        Owner whose units may be queued when this unit has ended; None if no unit depends on it.
    """

    key: str
    flow: Flow
    releases: str | None = None


def as_flow(part: Job | Flow) -> Flow:
    """Return a flow unchanged, or a flow that contains only this job."""
    return part if isinstance(part, Flow) else Flow([part], name=part.name)


class Chunk(NamedTuple):
    """Candidates that are evaluated in one workflow."""

    source: str
    """Uuid of the job whose output contains the candidates."""
    ids: list[str]


@dataclass(frozen=True)
class CampaignUnits:
    """The workflows of a campaign."""

    campaign: Campaign

    @cached_property
    def flows(self) -> CampaignFlows:
        """The flows of the campaign."""
        return CampaignFlows(self.campaign)

    @property
    def references(self) -> str:
        """Uuid of the job that returns the reference set of the candidates."""
        return str(self.flows.shared["references"].output.uuid)

    @cached_property
    def shared(self) -> dict[str, Flow]:
        """Flows of references and training, by uuid of the last job; campaigns may share them."""
        return {str(part.output.uuid): as_flow(part) for part in self.flows.shared.values()}

    @property
    def owners(self) -> list[str]:
        """Owners of all jobs of this campaign, including shared jobs."""
        return [self.campaign.name, *self.shared]

    @cached_property
    def compositions(self) -> dict[str, Flow]:
        """Flow of each composition up to the selection, by uuid of the selection."""
        flows = [self.flows.screen(formula) for formula in compositions_of(self.campaign)]
        return {str(flow.output.uuid): flow for flow in flows}

    @cached_property
    def own(self) -> list[Survivor]:
        """Structures provided by the user, which are evaluated without a selection."""
        return [Survivor(proposal=proposal) for proposal in own_proposals(self.campaign)]

    def unit(self, key: str) -> Unit:
        """Return the unit of stage one with this key."""
        if key in self.shared:
            return Unit(key, self.shared[key], releases=key)
        return Unit(key, self.compositions[key], releases=self.campaign.name)

    def candidate_unit(self, chunk: Chunk, databases: Databases) -> Unit:
        """Return the unit of stage two that evaluates the candidates of a chunk."""
        key = content_uuid("candidates", self.campaign.name, self.references, *chunk.ids)
        survivors = self.survivors(chunk, databases)
        return Unit(key, self.flows.candidates(survivors), releases=self.campaign.name)

    def chunks(self, databases: Databases) -> list[Chunk]:
        """Return the survivors and reference phases without a verdict and without a gate job.

        The candidates of a chunk have the same source.
        """
        with databases.store("outputs", key="uuid") as outputs:
            if not outputs.count({"uuid": self.references}):
                return []
            selections = outputs.query(
                {"uuid": {"$in": list(self.compositions)}},
                ["uuid", "output.survivors.proposal.candidate_id"],
            )
            survivors = {doc["uuid"]: doc["output"]["survivors"] for doc in selections}
            with_verdict = outputs.distinct(
                "metadata.candidate_id",
                {"metadata.campaign": self.campaign.name, "metadata.step": Step.GATE.value},
            )
        evaluated = {*with_verdict, *databases.launchpad().evaluated(self.campaign.name)}
        sources: dict[str, Iterable[str]] = {
            self.references: [
                survivor.proposal.candidate_id for survivor in self._reference_survivors(databases)
            ]
        }
        for key in self.compositions:
            of_composition = survivors.get(key, ())
            sources[key] = [item["proposal"]["candidate_id"] for item in of_composition]
        chunks = []
        for source, ids in sources.items():
            unevaluated = [name for name in dict.fromkeys(ids) if name not in evaluated]
            evaluated.update(unevaluated)
            chunks += [Chunk(source, part) for part in grouper(unevaluated, CHUNK)]
        return chunks

    def survivors(self, chunk: Chunk, databases: Databases) -> list[Survivor]:
        """Read the candidates of a chunk from the output of a job."""
        if chunk.source == self.references:
            survivors = self._reference_survivors(databases)
        else:
            with databases.store("outputs", key="uuid") as outputs:
                selection = outputs.query_one({"uuid": chunk.source}, ["output"])["output"]
            survivors = [
                Survivor.model_validate(decode(survivor)) for survivor in selection["survivors"]
            ]
        return [item for item in survivors if item.proposal.candidate_id in chunk.ids]

    def _reference_survivors(self, databases: Databases) -> list[Survivor]:
        """Return the reference phases and the user's structures, which need no selection."""
        with databases.job_store() as store:
            relaxed = find_and_resolve_references(self.flows.relaxed_references, store)
        phases = reference_survivors(self.campaign, relaxed, self.flows.level_of_theory)
        return [*phases, *self.own]
