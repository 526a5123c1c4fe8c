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
from gan_htvs.core.candidate import Screened
from gan_htvs.core.document import decode
from gan_htvs.core.hashing import content_uuid
from gan_htvs.core.stages import Step

if TYPE_CHECKING:
    from gan_htvs.campaign.model import Campaign
    from gan_htvs.core.candidate import Proposal
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

    def unit(self, part: str | Chunk, databases: Databases) -> Unit:
        """Return the unit of stage one with a key, or that of stage two with a chunk."""
        name = self.campaign.name
        if isinstance(part, Chunk):
            key = content_uuid("candidates", name, self.references, *part.ids)
            return Unit(key, self.flows.candidates(self.survivors(part, databases)), name)
        if part in self.shared:
            return Unit(part, self.shared[part], releases=part)
        return Unit(part, self.compositions[part], releases=name)

    def chunks(self, databases: Databases) -> list[Chunk]:
        """Return the survivors and reference phases without a verdict and without a gate job.

        The candidates of a chunk have the same source.
        """
        with databases.store("outputs", key="uuid") as outputs:
            if not outputs.count({"uuid": self.references}):
                return []
            selections = outputs.query(
                {"uuid": {"$in": list(self.compositions)}},
                ["uuid", "output.proposals.candidate_id", "output.proposals.prescreen.rejected_at"],
            )
            ids = {
                document["uuid"]: [
                    proposal["candidate_id"]
                    for proposal in document["output"]["proposals"]
                    if (proposal.get("prescreen") or {}).get("rejected_at") is None
                ]
                for document in selections
            }
            with_verdict = outputs.distinct(
                "metadata.candidate_id",
                {"metadata.campaign": self.campaign.name, "metadata.step": Step.GATE.value},
            )
        launchpad = databases.launchpad()
        with_gate = launchpad.candidates(self.campaign.name, except_states=["ARCHIVED"])
        evaluated = {*with_verdict, *with_gate}
        survivors = self._reference_survivors(databases)
        ids[self.references] = [survivor.candidate_id for survivor in survivors]
        chunks = []
        for source in (self.references, *self.compositions):
            of_source = dict.fromkeys(ids.get(source, ()))
            unevaluated = [name for name in of_source if name not in evaluated]
            evaluated.update(unevaluated)
            chunks += [Chunk(source, part) for part in grouper(unevaluated, CHUNK)]
        return chunks

    def survivors(self, chunk: Chunk, databases: Databases) -> list[Proposal]:
        """Read the candidates of a chunk from the output of a job."""
        if chunk.source == self.references:
            survivors = self._reference_survivors(databases)
        else:
            with databases.store("outputs", key="uuid") as outputs:
                selection = outputs.query_one({"uuid": chunk.source}, ["output"])["output"]
            survivors = Screened.model_validate(decode(selection)).survivors
        return [survivor for survivor in survivors if survivor.candidate_id in chunk.ids]

    def _reference_survivors(self, databases: Databases) -> list[Proposal]:
        """Return the reference phases and the user's structures, which need no selection."""
        with databases.job_store() as store:
            relaxed = find_and_resolve_references(self.flows.relaxed_references, store)
        phases = reference_survivors(self.campaign, relaxed, self.flows.level_of_theory)
        return [*phases, *own_proposals(self.campaign)]
