"""Builder of ``candidates``: joins proposals, prescreens, gates and band gaps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from emmet.core.symmetry import SymmetryData
from maggma.utils import grouper

from gan_htvs import __version__
from gan_htvs.core.band_gap import BandGapResult, missing_orderings
from gan_htvs.core.candidate import Candidate, PrescreenVerdict, Proposal, Verdict
from gan_htvs.core.document import decode, encode, output_of
from gan_htvs.core.hashing import content_hash
from gan_htvs.core.stages import REFERENCE_PHASE, USER, Stage, Step
from gan_htvs.core.text import one_line
from gan_htvs.results.builders.job_outputs import (
    VERSIONS,
    BaseCandidateBuilder,
    latest_gates,
    outputs_by_uuid,
    stored_campaigns,
    stored_candidates,
)
from gan_htvs.results.store import INDEXES
from gan_htvs.thermodynamics.assessment import check_relaxation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pymatgen.core import Structure


Header = dict[str, Any]
"""References to the inputs of a candidate: uuids and completion times of the jobs."""

Location = tuple[str, str, int]
"""Uuid of an output, list field and index in the list; an empty field means the output itself."""

LISTS = {"proposals": None, "screened": "verdict", "rejected": None, "survivors": "prescreen"}
"""Lists in outputs of sampling, prescreen and selection, and the part of each entry to read."""

UNSAMPLED = frozenset({REFERENCE_PHASE, USER})
"""Proposers without a sampling job; their structures are read from the verdict."""

COMPARISON_FIELDS = (
    *("stage", "reason", "novelty", "duplicate_of", "duplicates", "formation_energy_per_atom"),
    *("energy_above_hull", "energy_above_references", "decomposes_to", "pourbaix"),
)
"""Fields written by :class:`gan_htvs.results.builders.stability.StabilityBuilder`."""

Item = dict[str, Any]
"""Inputs of one candidate: header, proposal, prescreen, verdict and band gap."""


class CandidateBuilder(BaseCandidateBuilder):
    """Write one document per proposed structure from the results that exist so far.

    Only candidates whose inputs or campaign settings changed are rebuilt; a second run changes
    nothing. Until :class:`gan_htvs.results.builders.stability.StabilityBuilder` has compared the
    candidates with each other, a new one has the stage assigned by the gate.
    """

    def ensure_indexes(self) -> None:
        """Create the indexes for the builders and for candidate queries."""
        self.outputs.ensure_index("uuid")
        self.outputs.ensure_index("metadata.campaign")
        self.candidates.ensure_index("candidate_id", unique=True)
        for keys in INDEXES:
            # maggma passes keys on to pymongo, which accepts several fields.
            self.candidates.ensure_index(keys)

    def get_items(self) -> Iterator[Item]:
        """Yield the inputs of candidates that are out of date."""
        self.ensure_indexes()
        stale = [
            header
            for campaign in stored_campaigns(self.campaigns)
            for header in self._stale(campaign.name, content_hash(__version__, campaign))
        ]
        self.total = len(stale)
        for headers in grouper(stale, self.chunk_size):
            yield from self._read(headers)

    def process_item(self, item: Item) -> dict[str, Any]:
        """Build the document of one candidate from its inputs."""
        proposal: Proposal = item["proposal"]
        prescreen: PrescreenVerdict | None = item["prescreen"]
        fields: dict[str, Any] = {
            "candidate_id": proposal.candidate_id,
            "campaign": item["campaign"],
            "origin": proposal.origin,
            "generated_structure": proposal.structure,
            "last_updated": datetime.now(UTC),
            "builder_meta": VERSIONS | {"state": item["state"]},
            "stage": Stage.GENERATED,
            "prescreen": prescreen,
            **_describe(proposal.structure),
        }
        if prescreen is not None and not prescreen.survives:
            fields["stage"] = Stage.REJECTED
            fields["reason"] = f"{prescreen.rejected_at}: {prescreen.reason}"
        if item["gate"] is not None:
            try:
                return encode(Candidate(**fields | _evaluated(item["verdict"], item["gap"])))
            except Exception as error:  # noqa: BLE001 - keep building the other candidates
                fields["stage"] = Stage.FAILED
                fields["reason"] = f"the output of its gate cannot be read: {one_line(error)}"
                self.logger.warning("candidate %s: %s", proposal.candidate_id, fields["reason"])
        return encode(Candidate(**fields))

    def update_targets(self, items: list[dict[str, Any]]) -> None:
        """Write documents; keep comparison results if the relaxed structure is unchanged."""
        ids = [document["candidate_id"] for document in items]
        stored = stored_candidates(self.candidates, ids, [*COMPARISON_FIELDS, "builder_meta"])
        for document in items:
            before = stored.get(document["candidate_id"])
            document["builder_meta"]["relaxed"] = relaxed = _relaxed_hash(document)
            if before and relaxed and before["builder_meta"]["relaxed"] == relaxed:
                document |= {field: before[field] for field in COMPARISON_FIELDS}
                document["builder_meta"]["group"] = before["builder_meta"].get("group")
        if items:
            self.candidates.update(items, key="candidate_id")
            self.changed.update(ids)

    def _stale(self, campaign: str, settings: str) -> list[Header]:
        """Return headers of the candidates whose inputs changed."""
        built = {
            document["candidate_id"]: document["builder_meta"]["state"]
            for document in self.candidates.query(
                {"campaign": campaign}, ["candidate_id", "builder_meta.state"]
            )
        }
        headers = self._headers(campaign)
        for header in headers:
            header["state"] = content_hash(settings, header)
        return [
            header for header in headers if built.get(header["candidate_id"]) != header["state"]
        ]

    def _headers(self, campaign: str) -> list[Header]:
        """Return the header of every candidate of a campaign."""
        gates = latest_gates(
            self.outputs, [campaign], ["output.band_gap_job", "output.origin.proposer"]
        )
        gap_jobs = {
            candidate_id: gate["output"].get("band_gap_job") for candidate_id, gate in gates.items()
        }
        gaps = {
            gap["uuid"]: (gap["uuid"], str(gap.get("completed_at")))
            for gap in self.outputs.query(
                {"uuid": {"$in": list(filter(None, gap_jobs.values()))}}, ["uuid", "completed_at"]
            )
        }
        proposals, prescreens = self._locations(campaign)
        proposals |= {
            candidate_id: (gate["uuid"], "", 0)
            for candidate_id, gate in gates.items()
            if (gate["output"].get("origin") or {}).get("proposer") in UNSAMPLED
        }
        return [
            {
                "candidate_id": candidate_id,
                "campaign": campaign,
                "proposal": proposal,
                "prescreen": prescreens.get(candidate_id),
                "gate": (gate["uuid"], str(gate.get("completed_at"))) if gate else None,
                "gap": gaps.get(gap_jobs.get(candidate_id)),
            }
            for candidate_id, proposal in proposals.items()
            for gate in [gates.get(candidate_id)]
        ]

    def _locations(self, campaign: str) -> tuple[dict[str, Location], dict[str, Location]]:
        """Return locations of proposals, and of the latest screening verdicts, by candidate."""
        paths = [f"output.{'.'.join(filter(None, path))}.candidate_id" for path in LISTS.items()]
        steps = [Step.PROPOSE.value, Step.PRESCREEN.value, Step.SELECT.value]
        documents = self.outputs.query(
            {"metadata.campaign": campaign, "metadata.step": {"$in": steps}},
            ["uuid", "completed_at", *paths],
        )
        proposals: dict[str, Location] = {}
        verdicts: dict[str, Location] = {}
        for document in sorted(documents, key=lambda d: (str(d.get("completed_at")), d["uuid"])):
            output = output_of(document)
            for field in LISTS:
                locations = proposals if field == "proposals" else verdicts
                for index in range(len(output.get(field) or ())):
                    entry = _entry(output, field, index)
                    if entry is not None:  # None: no prescreen
                        locations[entry["candidate_id"]] = (document["uuid"], field, index)
        return proposals, verdicts

    def _read(self, headers: Sequence[Header]) -> Iterator[Item]:
        """Read the inputs of some candidates; each document is read once."""
        parts = ("proposal", "prescreen", "gate", "gap")
        uuids = {header[part][0] for header in headers for part in parts if header[part]}
        outputs = outputs_by_uuid(self.outputs, uuids)
        for header in headers:
            try:
                uuid, *location = header["proposal"]
                proposal = _proposal(_entry(outputs[uuid], *location))
                prescreen = None
                if header["prescreen"] is not None:
                    uuid, *location = header["prescreen"]
                    entry = decode(_entry(outputs[uuid], *location))
                    prescreen = PrescreenVerdict.model_validate(entry)
            except Exception as error:  # noqa: BLE001 - keep building the other candidates
                self.logger.warning("candidate %s skipped: %s", header["candidate_id"], error)
                continue
            yield header | {
                "proposal": proposal,
                "prescreen": prescreen,
                "verdict": header["gate"] and outputs[header["gate"][0]],
                "gap": header["gap"] and _gap(outputs[header["gap"][0]]),
            }


def _entry(output: Any, field: str, index: int) -> Any:
    """Return the proposal or verdict at a location in an output."""
    if not field:
        return output
    entry, part = output[field][index], LISTS[field]
    return entry.get(part) if part else entry


def _proposal(output: Any) -> Proposal:
    """Return the proposal in the output of a sampling job or gate."""
    proposal = decode(output)
    if isinstance(proposal, Verdict):
        return Proposal(
            candidate_id=proposal.candidate_id,
            structure=proposal.generated_structure,
            origin=proposal.origin,
        )
    return Proposal.model_validate(proposal)


def _evaluated(output: Any, gap: BandGapResult | None) -> dict[str, Any]:
    """Return the candidate fields derived from its gate and band gap."""
    verdict = Verdict.model_validate(decode(output))
    fields: dict[str, Any] = {
        "origin": verdict.origin,
        "stage": verdict.stage,
        "reason": verdict.reason,
        "failure": verdict.failure,
        "gate": {
            "stage": verdict.stage,
            "reason": verdict.reason,
            "references": verdict.references,
            "energy_above_hull": verdict.assessment and verdict.assessment.energy_above_hull,
        },
    }
    relaxed = verdict.relaxed
    if relaxed is None:
        return fields
    flaw = check_relaxation(relaxed, is_reference=verdict.origin.is_reference)
    if flaw is not None:
        stage, reason = flaw
        return fields | {"stage": stage, "reason": reason}
    if gap is not None:
        fields |= {
            "failure": gap.failure or verdict.failure,
            "band_gap": gap.band_gap if gap.is_complete else None,
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
        gate["references"], gate["energy_above_hull"], [document[field] for field in fields]
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
