"""Divide a campaign into small workflows with unique keys, so that none is queued twice.

Stage one consists of references, training, and the jobs of each composition up to the selection.
Stage two is built from stored selections and references; each workflow evaluates at most ``CHUNK``
candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING, Any

from jobflow import Flow, Job
from jobflow.core.reference import find_and_resolve_references
from maggma.utils import grouper

from flows.campaign import CampaignFlows, compositions_of
from flows.proposals import own_proposals
from flows.references import reference_survivors
from gan_htvs.candidate import Step
from gan_htvs.documents import decode
from gan_htvs.identity import content_uuid
from gan_htvs.prescreen.documents import Survivor

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from gan_htvs.campaign import Campaign
    from launchers.database import Databases

CHUNK = 50
"""Largest number of candidates in one workflow; FireWorks is slow for large workflows."""


@dataclass(frozen=True)
class Unit:
    """One small workflow.

    Parameters
    ----------
    key
        Name of the unit on the launchpad. For references, training and compositions it is the uuid
        of the job whose output completes the unit.
    flow
        The jobs to queue.
    frees
        Owner whose units may be queued when this one has ended; None if no unit depends on it.
    """

    key: str
    flow: Flow
    frees: str | None = None


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
        """Uuid of the job that assembles the reference set of the candidates."""
        return str(self.flows.shared["references"].output.uuid)

    @cached_property
    def shared(self) -> dict[str, Job | Flow]:
        """References and training, which other campaigns may share, by uuid of their last job."""
        return {str(part.output.uuid): part for part in self.flows.shared.values()}

    @property
    def owners(self) -> list[str]:
        """Labels of all jobs of this campaign, shared ones included."""
        return [self.campaign.name, *self.shared]

    @cached_property
    def compositions(self) -> dict[str, Flow]:
        """The flows up to the selection, by uuid of the selection."""
        flows = [self.flows.screen(formula) for formula in compositions_of(self.campaign)]
        return {str(flow.output.uuid): flow for flow in flows}

    @property
    def needs(self) -> dict[str, frozenset[str]]:
        """Uuids of the outputs that must be stored before a unit of stage one is queued."""
        shared: dict[str, frozenset[str]] = {key: frozenset() for key in self.shared}
        return shared | dict.fromkeys(self.compositions, frozenset(self.shared))

    @cached_property
    def own(self) -> list[Survivor]:
        """Structures of the user, which are evaluated without a selection."""
        return [Survivor(proposal=proposal) for proposal in own_proposals(self.campaign)]

    def units(self, keys: Collection[str]) -> Iterator[Unit]:
        """Make units of stage one."""
        for key, part in self.shared.items():
            if key in keys:
                flow = part if isinstance(part, Flow) else Flow([part], name=part.name)
                yield Unit(key, flow, frees=key)
        for key, flow in self.compositions.items():
            if key in keys:
                yield Unit(key, flow, frees=self.campaign.name)

    def candidate_chunks(self, databases: Databases) -> Iterator[list[Survivor]]:
        """Yield batches of survivors and reference phases that are not evaluated yet.

        Each chunk is read lazily, and comes from one composition.
        """
        for source, ids in self._unevaluated(databases).items():
            for chunk in grouper(ids, CHUNK):
                yield self._survivors(source, chunk, databases)

    def n_candidate_chunks(self, databases: Databases) -> int:
        """Count the chunks without reading them."""
        return sum(ceil(len(ids) / CHUNK) for ids in self._unevaluated(databases).values())

    def candidate_unit(self, chunk: Sequence[Survivor]) -> Unit:
        """Make the unit of stage two that evaluates some survivors."""
        ids = [survivor.proposal.candidate_id for survivor in chunk]
        key = content_uuid("candidates", self.campaign.name, self.references, *ids)
        return Unit(key, self.flows.candidates(chunk), frees=self.campaign.name)

    def _unevaluated(self, databases: Databases) -> dict[str, list[str]]:
        """Return the ids of candidates to evaluate, by uuid of the job whose output has them."""
        if self.references not in databases.stored([self.references]):
            return {}
        references = self._reference_survivors(databases)
        ids = {self.references: [survivor.proposal.candidate_id for survivor in references]}
        with databases.store("outputs", key="uuid") as outputs:
            for document in outputs.query(
                {"uuid": {"$in": list(self.compositions)}},
                ["uuid", "output.survivors.proposal.candidate_id"],
            ):
                survivors = document["output"]["survivors"]
                ids[document["uuid"]] = [
                    survivor["proposal"]["candidate_id"] for survivor in survivors
                ]
        seen = evaluated(databases, self.campaign.name)
        unevaluated = {}
        for source in (self.references, *self.compositions):
            candidate_ids = ids.get(source, [])
            unevaluated[source] = [name for name in candidate_ids if name not in seen]
            seen.update(unevaluated[source])
        return unevaluated

    def _survivors(self, source: str, ids: Collection[str], databases: Databases) -> list[Survivor]:
        """Read some survivors from the output of a job."""
        if source == self.references:
            survivors = self._reference_survivors(databases)
            return [survivor for survivor in survivors if survivor.proposal.candidate_id in ids]
        with databases.store("outputs", key="uuid") as outputs:
            selection = outputs.query_one({"uuid": source}, ["output"])["output"]
        return [
            Survivor.model_validate(decode(survivor))
            for survivor in selection["survivors"]
            if survivor["proposal"]["candidate_id"] in ids
        ]

    def _reference_survivors(self, databases: Databases) -> list[Survivor]:
        """Return reference phases and own structures, which are evaluated without a selection."""
        with databases.job_store() as store:
            relaxed = find_and_resolve_references(self.flows.relaxed_references, store)
        phases = reference_survivors(self.campaign, relaxed, self.flows.level_of_theory)
        return [*phases, *self.own]


def evaluated(databases: Databases, campaign: str) -> set[str]:
    """Return the ids of candidates that have a verdict or a job for it."""
    database = databases.launchpad().db
    gates: dict[str, Any] = {"campaign": campaign, "step": Step.GATE.value}
    stored = database.outputs.distinct(
        "metadata.candidate_id", {f"metadata.{name}": value for name, value in gates.items()}
    )
    queued = database.fireworks.distinct(
        "spec.candidate_id",
        {f"spec.{name}": value for name, value in gates.items()} | {"state": {"$ne": "ARCHIVED"}},
    )
    return {*stored, *queued}
