"""Divide a campaign into small workflows with unique keys, which prevent queueing them twice.

Stage one consists of references, training, and the jobs of each composition up to the selection.
With several rounds of sampling, each further round has a training and the jobs of each composition.
Stage two is built from stored selections and references; each of its workflows evaluates at most
``CHUNK`` candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from jobflow import Flow, Job
from jobflow.core.reference import find_and_resolve_references
from maggma.utils import grouper

from flows.campaign import CampaignFlows
from flows.proposals import own_proposals
from flows.references import reference_survivors
from gan_htvs.core.candidate import Screened
from gan_htvs.core.document import decode
from gan_htvs.core.hashing import content_uuid
from gan_htvs.core.stages import Step

if TYPE_CHECKING:
    from collections.abc import Collection

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


class RoundUnits(NamedTuple):
    """Keys of the units of one round of sampling."""

    training: str | None
    """Key of the training on what the earlier rounds found; None in the first round."""
    compositions: list[str]


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
    def rounds(self) -> list[RoundUnits]:
        """The units of each round of sampling."""
        return [
            RoundUnits(
                None if training is None else str(training.output.uuid),
                [str(flow.output.uuid) for flow in screens.values()],
            )
            for training, screens in self.flows.rounds
        ]

    @cached_property
    def trainings(self) -> dict[str, Flow]:
        """Flow of the training of each round after the first, by uuid of the training."""
        trainings = (training for training, _ in self.flows.rounds if training is not None)
        return {str(training.output.uuid): training for training in trainings}

    @cached_property
    def compositions(self) -> dict[str, Flow]:
        """Flow of each composition and round up to the selection, by uuid of the selection."""
        flows = (flow for _, screens in self.flows.rounds for flow in screens.values())
        return {str(flow.output.uuid): flow for flow in flows}

    def unit(self, part: str | Chunk, databases: Databases) -> Unit:
        """Return the unit of stage one with a key, or that of stage two with a chunk."""
        name = self.campaign.name
        if isinstance(part, Chunk):
            key = content_uuid("candidates", name, self.references, *part.ids)
            return Unit(key, self.flows.candidates(self.survivors(part, databases)), name)
        if part in self.shared:
            return Unit(part, self.shared[part], releases=part)
        flows = self.trainings if part in self.trainings else self.compositions
        return Unit(part, flows[part], releases=name)

    def open_rounds(self, stored: Collection[str], databases: Databases) -> list[RoundUnits]:
        """Return the rounds up to the first one whose training found nothing new.

        ``stored`` are the keys of the units with a stored output.
        """
        trainings = [number.training for number in self.rounds if number.training in stored]
        if not trainings:
            return self.rounds
        with databases.store("outputs", key="uuid") as outputs:
            query = {"uuid": {"$in": trainings}, "output.stopped": {"$ne": None}}
            stopped = {document["uuid"] for document in outputs.query(query, ["uuid"])}
        return list(takewhile(lambda one: one.training not in stopped, self.rounds))

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
