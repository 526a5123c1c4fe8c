"""Builder of ``candidates``: joins proposals, prescreens, gates and computed properties."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from maggma.utils import grouper

from gan_htvs import __version__
from gan_htvs.core.band_gap import BandGapResult, missing_orderings
from gan_htvs.core.candidate import Candidate, Proposal, Verdict
from gan_htvs.core.document import decode, encode, output_of
from gan_htvs.core.hashing import content_hash
from gan_htvs.core.properties import BAND_GAP, PropertyResult
from gan_htvs.core.stages import Stage, Step
from gan_htvs.core.text import one_line
from gan_htvs.results.builders.job_outputs import (
    VERSIONS,
    BaseCandidateBuilder,
    latest_gates,
    outputs_by_uuid,
    stored_campaigns,
    stored_candidates,
)
from gan_htvs.results.builders.stability import COMPARISON_FIELDS
from gan_htvs.results.store import INDEXES
from gan_htvs.structures.descriptors import describe
from gan_htvs.structures.symmetry import SYMPREC, TIGHT_SYMPREC, symmetry_of
from gan_htvs.thermodynamics.assessment import check_relaxation
from gan_htvs.thermodynamics.plausibility import lowest_plausible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pymatgen.core import Structure

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.core.candidate import Assessment
    from gan_htvs.structures.geometry_limits import GeometryLimits

LOGGER = logging.getLogger(__name__)

INPUTS = ("proposal", "verdict", "gap")
"""Inputs of a candidate besides the user's properties; all are outputs of jobs."""

OUTPUT_INDEXES = (
    (("uuid", 1),),
    # Finds the few reference sets and training sets.
    (("metadata.step", 1),),
    # Counts evaluated candidates from the index alone; the documents are large.
    (("metadata.campaign", 1), ("metadata.step", 1), ("metadata.candidate_id", 1)),
)
"""Indexes of job outputs."""

Header = dict[str, Any]
"""Uuid of the job of each of :data:`INPUTS` and of each property, or None; completion times."""


class Limits(NamedTuple):
    """Limits of a campaign for geometries and for decomposition energies, eV/atom."""

    geometry: GeometryLimits
    lowest_decomposition_energy: float | None
    accept_incomplete: bool
    """Whether incomplete band gaps are results."""

    @classmethod
    def of(cls, campaign: Campaign) -> Self:
        """Return the limits of a campaign."""
        return cls(
            campaign.geometry,
            campaign.lowest_decomposition_energy,
            campaign.engines.band_gap.accept_incomplete,
        )

    def are_met_by(self, assessment: Assessment) -> bool:
        """Return whether an energy is not too far below the hull."""
        lowest = lowest_plausible(self.lowest_decomposition_energy, assessment.uncovered_subsystems)
        return assessment.reference_decomposition_energy >= lowest


class CandidateBuilder(BaseCandidateBuilder):
    """Write one document per proposed structure from the results that exist so far.

    Only candidates whose inputs or campaign settings changed are rebuilt; a second run changes
    nothing. Until :class:`gan_htvs.results.builders.stability.StabilityBuilder` has compared the
    candidates with each other, a new one has the stage assigned by the gate.
    """

    def ensure_indexes(self) -> None:
        """Create the indexes for the builders, for counts of jobs and for candidate queries."""
        # maggma passes keys on to pymongo, which accepts several fields.
        for output_keys in OUTPUT_INDEXES:
            self.outputs.ensure_index(output_keys)
        self.candidates.ensure_index("candidate_id", unique=True)
        for keys in INDEXES:
            self.candidates.ensure_index(keys)

    def get_items(self) -> Iterator[dict[str, Any]]:
        """Yield the inputs of candidates that are out of date."""
        self.ensure_indexes()
        stale = [
            header
            for campaign in stored_campaigns(self.campaigns)
            for header in self._stale(campaign)
        ]
        self.total = len(stale)
        for headers in grouper(stale, self.chunk_size):
            yield from self._read(headers)

    def process_item(self, item: dict[str, Any]) -> dict[str, Any] | None:
        """Build the document of one candidate from its inputs; None if they cannot be read."""
        header = item.pop("header")
        try:
            document = encode(build_candidate(header["campaign"], header["limits"], **item))
        except Exception as error:  # noqa: BLE001 - keep building the other candidates
            self.logger.warning("candidate %s skipped: %s", header["candidate_id"], error)
            return None
        hashes = {"state": header["state"], "relaxed": _relaxed_hash(document)}
        return document | {"builder_meta": VERSIONS | hashes}

    def update_targets(self, items: list[dict[str, Any] | None]) -> None:
        """Write documents; keep comparison results until the next comparison."""
        documents = {document["candidate_id"]: document for document in items if document}
        fields = [*COMPARISON_FIELDS, "energy_per_atom", "builder_meta"]
        for name, stored in stored_candidates(self.candidates, documents, fields).items():
            document = documents[name]
            document["builder_meta"] = stored["builder_meta"] | document["builder_meta"]
            if None not in (stored["energy_per_atom"], document["energy_per_atom"]):
                document |= {field: stored[field] for field in COMPARISON_FIELDS}
        if documents:
            self.candidates.update(list(documents.values()), key="candidate_id")
            self.changed.update(documents)

    def _stale(self, campaign: Campaign) -> list[Header]:
        """Return headers of the candidates whose inputs changed."""
        documents = self.candidates.query(
            {"campaign": campaign.name}, ["candidate_id", "builder_meta.state"]
        )
        built = {
            document["candidate_id"]: document["builder_meta"]["state"] for document in documents
        }
        return [
            header | {"state": state, "limits": Limits.of(campaign)}
            for header in self._headers(campaign)
            if built.get(header["candidate_id"])
            != (state := content_hash(__version__, campaign, header))
        ]

    def _headers(self, campaign: Campaign) -> Iterator[Header]:
        """Yield the header of every candidate of a campaign."""
        fields = ["output.band_gap_job", "output.relaxed_hash"]
        gates = latest_gates(self.outputs, [campaign.name], fields)
        jobs = {name: _property_jobs(gate["output"], campaign) for name, gate in gates.items()}
        uuids = {uuid for by_property in jobs.values() for uuid in by_property.values()}
        stored = self.outputs.query({"uuid": {"$in": sorted(uuids)}}, ["uuid", "completed_at"])
        completed = {output["uuid"]: str(output.get("completed_at")) for output in stored}
        proposals = self._locations(campaign.name)
        for name in proposals | gates:
            gate = gates.get(name, {})
            ended = {key: uuid for key, uuid in jobs.get(name, {}).items() if uuid in completed}
            gap = ended.pop(BAND_GAP, None)
            yield {
                "candidate_id": name,
                "campaign": campaign.name,
                "proposal": proposals.get(name),
                "verdict": gate.get("uuid"),
                "gap": gap,
                "properties": ended,
                "completed_at": [
                    str(gate.get("completed_at")),
                    *(completed.get(uuid) for uuid in (gap, *ended.values())),
                ],
            }

    def _locations(self, campaign: str) -> dict[str, str]:
        """Return the uuid of the latest prescreen or selection of each candidate, or of its sample.

        Selections and prescreens have the complete proposals.
        """
        steps = [Step.PROPOSE.value, Step.PRESCREEN.value, Step.SELECT.value]
        documents = self.outputs.query(
            {"metadata.campaign": campaign, "metadata.step": {"$in": steps}},
            ["uuid", "completed_at", "metadata.step", "output.proposals.candidate_id"],
        )

        def order(document: dict[str, Any]) -> tuple[bool, str, str]:
            is_screened = document["metadata"]["step"] != Step.PROPOSE
            return is_screened, str(document.get("completed_at")), document["uuid"]

        return {
            name: document["uuid"]
            for document in sorted(documents, key=order)
            for name in _proposals(output_of(document))
        }

    def _read(self, headers: Sequence[Header]) -> Iterator[dict[str, Any]]:
        """Read the inputs of some candidates; each document is read once."""
        uuids = {header[name] for header in headers for name in INPUTS} - {None}
        uuids |= {uuid for header in headers for uuid in header["properties"].values()}
        outputs = outputs_by_uuid(self.outputs, uuids)
        proposals = {
            uuid: _proposals(outputs[uuid])
            for uuid in {header["proposal"] for header in headers} - {None}
        }
        for header in headers:
            proposal, verdict, gap = (header[name] for name in INPUTS)
            yield {
                "header": header,
                "proposal": proposal and proposals[proposal].get(header["candidate_id"]),
                # None: the job has not run.
                "verdict": verdict and (outputs[verdict] or "no output"),
                "gap": gap and (outputs[gap] or "no output"),
                "properties": {
                    key: outputs[uuid] or "no output" for key, uuid in header["properties"].items()
                },
            }


def _property_jobs(verdict: dict[str, Any], campaign: Campaign) -> dict[str, str]:
    """Return the uuids of the jobs that compute properties of a candidate, by property."""
    jobs = {BAND_GAP: verdict.get("band_gap_job")}
    if relaxed_hash := verdict.get("relaxed_hash"):
        for name, settings in campaign.properties.items():
            jobs[name] = settings.job_uuid(relaxed_hash)
    return {name: uuid for name, uuid in jobs.items() if uuid}


def _proposals(output: dict[str, Any]) -> dict[str, Any]:
    """Return the stored proposals of a sampling job, prescreen or selection, by candidate."""
    return {proposal["candidate_id"]: proposal for proposal in output.get("proposals") or ()}


def build_candidate(
    campaign: str,
    limits: Limits,
    *,
    proposal: Any,
    verdict: Any,
    gap: Any,
    properties: Mapping[str, Any] | None = None,
) -> Candidate:
    """Join the results of one candidate, before it is compared with other candidates.

    Parameters
    ----------
    campaign
        Name of the campaign.
    limits
        Limits of the campaign.
    proposal, verdict, gap, properties
        Stored documents; None if a job has not run. Without a proposal (a reference phase, or a
        structure of the user), the structure is read from the verdict. A verdict or gap that
        cannot be read is a failure of the candidate.

    Raises
    ------
    ValueError
        If the proposal cannot be read.
    """
    proposed = Proposal.model_validate(decode(verdict if proposal is None else proposal))
    screened = proposed.prescreen
    fields: dict[str, Any] = {
        "candidate_id": proposed.candidate_id,
        "campaign": campaign,
        "origin": proposed.origin,
        "generated_structure": proposed.structure,
        "generated_symmetry": symmetry_of(proposed.structure, SYMPREC),
        "last_updated": datetime.now(UTC),
        "stage": Stage.GENERATED,
        "prescreen": screened,
    }
    if screened and not proposed.survives:
        fields["stage"] = Stage.REJECTED
        fields["reason"] = f"{screened.rejected_at}: {screened.reason}"
    if verdict is not None:
        try:
            evaluated = Verdict.model_validate(decode(verdict))
            results = {name: _property(result) for name, result in (properties or {}).items()}
            fields |= _evaluated(evaluated, gap and _gap(gap), results, limits)
        except Exception as error:  # noqa: BLE001 - the structure is still a candidate
            fields["stage"] = Stage.FAILED
            fields["reason"] = f"the output of its gate cannot be read: {one_line(error)}"
            LOGGER.warning("candidate %s: %s", proposed.candidate_id, fields["reason"])
    if "symmetry" not in fields:  # no relaxed structure
        fields |= _describe(proposed.structure)
    return Candidate(**fields)


def _evaluated(
    verdict: Verdict,
    gap: BandGapResult | None,
    properties: Mapping[str, PropertyResult],
    limits: Limits,
) -> dict[str, Any]:
    """Return the candidate fields derived from its gate, band gap and other properties."""
    fields: dict[str, Any] = {
        "origin": verdict.origin,
        "stage": verdict.stage,
        "reason": verdict.reason,
        "failure": verdict.failure,
        "gate": {
            "stage": verdict.stage,
            "reason": verdict.reason,
            "references": verdict.references,
            "decomposition_energy": verdict.assessment and verdict.assessment.decomposition_energy,
            "is_plausible": verdict.assessment and limits.are_met_by(verdict.assessment),
        },
    }
    relaxed = verdict.relaxed
    if relaxed is None:
        return fields
    flaw = check_relaxation(relaxed, limits.geometry, is_reference=verdict.origin.is_reference)
    if flaw is not None:
        stage, reason = flaw
        return fields | {"stage": stage, "reason": reason}
    if gap is not None:
        fields |= {
            "failure": gap.failure or verdict.failure,
            "band_gap": gap.band_gap if gap.is_complete or limits.accept_incomplete else None,
            "incomplete_band_gap": None if gap.is_complete else gap.band_gap,
            "is_gap_direct": gap.is_gap_direct,
            "band_gap_method": gap.method if gap.band_gap is not None else None,
            "band_gap_reason": gap.reason,
            "band_gap_result": gap,
        }
    return fields | {
        "structure": relaxed.structure,
        "oxidation_states": relaxed.oxidation_states,
        "level_of_theory": relaxed.level_of_theory,
        "energy_per_atom": relaxed.energy_per_atom,
        "energy_incomplete": missing_orderings(relaxed.magnetic_orders),
        "properties": dict(properties),
        **_describe(relaxed.structure, relaxed.magmoms),
    }


def _relaxed_hash(document: dict[str, Any]) -> str | None:
    """Return a hash of the fields used in comparisons: structure, energy and references."""
    if document["energy_per_atom"] is None:
        return None
    gate = document["gate"]
    fields = ("structure", "energy_per_atom", "level_of_theory", "origin")
    return content_hash(
        gate["references"],
        gate["decomposition_energy"],
        gate["is_plausible"],
        [document[field] for field in fields],
    )


def _describe(structure: Structure, magmoms: Sequence[float] | None = None) -> dict[str, Any]:
    """Return the candidate fields derived from a structure and its magnetic moments."""
    return describe(structure, magmoms) | {
        "symmetry": symmetry_of(structure, SYMPREC),
        "tight_symmetry": symmetry_of(structure, TIGHT_SYMPREC),
    }


def _property(output: Any) -> PropertyResult:
    try:
        return PropertyResult.model_validate(decode(output))
    except Exception as error:  # noqa: BLE001 - an unreadable result is stored as a missing value
        return PropertyResult(reason=f"the output of its job cannot be read: {error}")


def _gap(output: Any) -> BandGapResult:
    try:
        return BandGapResult.model_validate(decode(output))
    except Exception as error:  # noqa: BLE001 - an unreadable result is stored as a missing gap
        return BandGapResult(reason=f"the output of its band gap job cannot be read: {error}")
