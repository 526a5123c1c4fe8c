"""Builder of ``candidates``: joins proposals, prescreens, gates and band gaps."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from emmet.core.symmetry import SymmetryData
from maggma.utils import grouper

from gan_htvs import __version__
from gan_htvs.core.band_gap import BandGapResult, missing_orderings
from gan_htvs.core.candidate import Candidate, Proposal, Verdict
from gan_htvs.core.document import decode, encode, output_of
from gan_htvs.core.hashing import content_hash
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
from gan_htvs.thermodynamics.assessment import check_relaxation
from gan_htvs.thermodynamics.plausibility import lowest_plausible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pymatgen.core import Structure

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.core.candidate import Assessment
    from gan_htvs.structures.geometry_limits import GeometryLimits

LOGGER = logging.getLogger(__name__)

INPUTS = ("proposal", "verdict", "gap")
"""Inputs of a candidate, which are outputs of jobs."""

OUTPUT_INDEXES = (
    (("uuid", 1),),
    # Finds the few reference sets and training sets.
    (("metadata.step", 1),),
    # Counts evaluated candidates from the index alone; the documents are large.
    (("metadata.campaign", 1), ("metadata.step", 1), ("metadata.candidate_id", 1)),
)
"""Indexes of job outputs."""

Header = dict[str, Any]
"""Uuid of the job of each of :data:`INPUTS`, or None, and completion times."""


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
            campaign.stage_thresholds.lowest_decomposition_energy,
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
            for header in self._headers(campaign.name)
            if built.get(header["candidate_id"])
            != (state := content_hash(__version__, campaign, header))
        ]

    def _headers(self, campaign: str) -> Iterator[Header]:
        """Yield the header of every candidate of a campaign."""
        gates = latest_gates(self.outputs, [campaign], ["output.band_gap_job"])
        gap_jobs = {name: gate["output"].get("band_gap_job") for name, gate in gates.items()}
        stored_gaps = self.outputs.query(
            {"uuid": {"$in": list(filter(None, gap_jobs.values()))}}, ["uuid", "completed_at"]
        )
        completed = {gap["uuid"]: str(gap.get("completed_at")) for gap in stored_gaps}
        proposals = self._locations(campaign)
        for name in proposals | gates:
            gate, gap = gates.get(name, {}), gap_jobs.get(name)
            yield {
                "candidate_id": name,
                "campaign": campaign,
                "proposal": proposals.get(name),
                "verdict": gate.get("uuid"),
                "gap": gap if gap in completed else None,
                "completed_at": [str(gate.get("completed_at")), completed.get(gap)],
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
            }


def _proposals(output: dict[str, Any]) -> dict[str, Any]:
    """Return the stored proposals of a sampling job, prescreen or selection, by candidate."""
    return {proposal["candidate_id"]: proposal for proposal in output.get("proposals") or ()}


def build_candidate(
    campaign: str, limits: Limits, *, proposal: Any, verdict: Any, gap: Any
) -> Candidate:
    """Join the results of one candidate, before it is compared with other candidates.

    Parameters
    ----------
    campaign
        Name of the campaign.
    limits
        Limits of the campaign.
    proposal, verdict, gap
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
            fields |= _evaluated(evaluated, gap and _gap(gap), limits)
        except Exception as error:  # noqa: BLE001 - the structure is still a candidate
            fields["stage"] = Stage.FAILED
            fields["reason"] = f"the output of its gate cannot be read: {one_line(error)}"
            LOGGER.warning("candidate %s: %s", proposed.candidate_id, fields["reason"])
    if "symmetry" not in fields:  # no relaxed structure
        fields |= _describe(proposed.structure)
    return Candidate(**fields)


def _evaluated(verdict: Verdict, gap: BandGapResult | None, limits: Limits) -> dict[str, Any]:
    """Return the candidate fields derived from its gate and band gap."""
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
        **_describe(relaxed.structure),
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


def _describe(structure: Structure) -> dict[str, Any]:
    """Return the candidate fields derived from a structure."""
    composition = structure.composition
    return {
        "formula_pretty": composition.reduced_formula,
        "chemsys": composition.chemical_system,
        "nsites": len(structure),
        "symmetry": SymmetryData.from_structure(structure).model_dump(mode="json"),
    }


def _gap(output: Any) -> BandGapResult:
    try:
        return BandGapResult.model_validate(decode(output))
    except Exception as error:  # noqa: BLE001 - an unreadable result is stored as a missing gap
        return BandGapResult(reason=f"the output of its band gap job cannot be read: {error}")
