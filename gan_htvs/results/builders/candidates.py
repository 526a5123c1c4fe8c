"""Builder: proposals, prescreens, gates and band gaps -> ``candidates``."""

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
    BuilderOfCandidates,
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
"""What is known of a candidate's inputs before they are read: uuids and completion times."""

Place = tuple[str, str, int]
"""Uuid of an output, the field, and the position in its list; no field: the output itself."""

LISTS = {"proposals": None, "screened": "verdict", "rejected": None, "survivors": "prescreen"}
"""Lists in outputs of sampling, prescreen and selection -> the part of each entry that is read."""

UNSAMPLED = frozenset({REFERENCE_PHASE, USER})
"""Proposers without a sampling job: the structure is read from the verdict."""

COMPARED = (
    *("stage", "reason", "novelty", "duplicate_of", "duplicates", "formation_energy_per_atom"),
    *("energy_above_hull", "energy_above_references", "decomposes_to", "pourbaix"),
)
"""Fields that :class:`gan_htvs.results.builders.stability.StabilityBuilder` writes."""

Item = dict[str, Any]
"""One candidate, ready to build: proposal, prescreen, gate and gap, and its header."""


class CandidateBuilder(BuilderOfCandidates):
    """Write one document per proposed structure, from whatever has been computed for it so far.

    Only candidates whose inputs or campaign settings have changed are built again; a second run
    changes nothing. :class:`gan_htvs.results.builders.stability.StabilityBuilder` then compares the
    candidates with each other; until then a new one has the stage that the gate decided.
    """

    def ensure_indexes(self) -> None:
        """Make the indexes that both builders need, and those of queries of candidates."""
        self.outputs.ensure_index("uuid")
        self.outputs.ensure_index("metadata.campaign")
        self.candidates.ensure_index("candidate_id", unique=True)
        for keys in INDEXES:
            # maggma hands it on to pymongo, which takes several fields, too.
            self.candidates.ensure_index(keys)

    def get_items(self) -> Iterator[Item]:
        """Yield the inputs of every candidate that is out of date."""
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
        """Join the inputs of one candidate into its document."""
        proposal: Proposal = item["proposal"]
        prescreen: PrescreenVerdict | None = item["prescreen"]
        proposed: dict[str, Any] = {
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
            proposed["stage"] = Stage.REJECTED
            proposed["reason"] = f"{prescreen.rejected_at}: {prescreen.reason}"
        if item["gate"] is not None:
            try:
                return encode(Candidate(**proposed | _evaluated(item["verdict"], item["gap"])))
            except Exception as error:  # noqa: BLE001 - whatever it is, the other candidates go on
                proposed["stage"] = Stage.FAILED
                proposed["reason"] = f"its gate left what cannot be read: {one_line(error)}"
                self.logger.warning("candidate %s: %s", proposal.candidate_id, proposed["reason"])
        return encode(Candidate(**proposed))

    def update_targets(self, items: list[dict[str, Any]]) -> None:
        """Write documents, which keep the results of comparisons of the same relaxed structure."""
        ids = [document["candidate_id"] for document in items]
        stored = stored_candidates(self.candidates, ids, [*COMPARED, "builder_meta"])
        for document in items:
            before = stored.get(document["candidate_id"])
            document["builder_meta"]["relaxed"] = relaxed = _relaxed_hash(document)
            if before and relaxed and before["builder_meta"]["relaxed"] == relaxed:
                document |= {field: before[field] for field in COMPARED}
                document["builder_meta"]["group"] = before["builder_meta"].get("group")
        if items:
            self.candidates.update(items, key="candidate_id")
            self.changed.update(ids)

    def _stale(self, campaign: str, settings: str) -> list[Header]:
        """Return headers of the candidates whose documents were made from other inputs."""
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
        """Find the inputs of every candidate of a campaign, by uuid and completion time."""
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
        proposals, prescreens = self._places(campaign)
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

    def _places(self, campaign: str) -> tuple[dict[str, Place], dict[str, Place]]:
        """Find proposals, and the last verdicts of prescreen and selection, by candidate."""
        paths = [f"output.{'.'.join(filter(None, path))}.candidate_id" for path in LISTS.items()]
        steps = [Step.PROPOSE.value, Step.PRESCREEN.value, Step.SELECT.value]
        documents = self.outputs.query(
            {"metadata.campaign": campaign, "metadata.step": {"$in": steps}},
            ["uuid", "completed_at", *paths],
        )
        proposals: dict[str, Place] = {}
        verdicts: dict[str, Place] = {}
        for document in sorted(documents, key=lambda d: (str(d.get("completed_at")), d["uuid"])):
            output = output_of(document)
            for field in LISTS:
                places = proposals if field == "proposals" else verdicts
                for index in range(len(output.get(field) or ())):
                    entry = _entry(output, field, index)
                    if entry is not None:  # None: there was no prescreen
                        places[entry["candidate_id"]] = (document["uuid"], field, index)
        return proposals, verdicts

    def _read(self, headers: Sequence[Header]) -> Iterator[Item]:
        """Fetch the inputs of some candidates, each document once."""
        parts = ("proposal", "prescreen", "gate", "gap")
        uuids = {header[part][0] for header in headers for part in parts if header[part]}
        outputs = outputs_by_uuid(self.outputs, uuids)
        for header in headers:
            try:
                uuid, *place = header["proposal"]
                proposal = _proposal(_entry(outputs[uuid], *place))
                prescreen = None
                if header["prescreen"] is not None:
                    uuid, *place = header["prescreen"]
                    entry = decode(_entry(outputs[uuid], *place))
                    prescreen = PrescreenVerdict.model_validate(entry)
            except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
                self.logger.warning("candidate %s is skipped: %s", header["candidate_id"], error)
                continue
            yield header | {
                "proposal": proposal,
                "prescreen": prescreen,
                "verdict": header["gate"] and outputs[header["gate"][0]],
                "gap": header["gap"] and _gap(outputs[header["gap"][0]]),
            }


def _entry(output: Any, field: str, index: int) -> Any:
    """Return the proposal or verdict in an entry of a list of an output; no field: the output."""
    if not field:
        return output
    entry, part = output[field][index], LISTS[field]
    return entry.get(part) if part else entry


def _proposal(output: Any) -> Proposal:
    """Read a proposal of a sampling job, or that of a verdict."""
    proposal = decode(output)
    if isinstance(proposal, Verdict):
        return Proposal(
            candidate_id=proposal.candidate_id,
            structure=proposal.generated_structure,
            origin=proposal.origin,
        )
    return Proposal.model_validate(proposal)


def _evaluated(output: Any, gap: BandGapResult | None) -> dict[str, Any]:
    """Return the fields of a candidate that follow from its gate and its band gap."""
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
    """Hash what comparisons use of a candidate: structure, energy and references."""
    if document["energy_per_atom"] is None:
        return None
    gate = document["gate"]
    fields = ("structure", "energy_per_atom", "level_of_theory", "origin")
    return content_hash(
        gate["references"], gate["energy_above_hull"], [document[field] for field in fields]
    )


def _describe(structure: Structure) -> dict[str, Any]:
    """Return the fields that follow from a structure alone."""
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
    except Exception as error:  # noqa: BLE001 - whatever it is, there is no gap
        return BandGapResult(reason=f"its band gap job left what cannot be read: {error}")
