"""Builder: proposals, gates, ``stability`` and band gaps -> ``candidates``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from emmet.core.symmetry import SymmetryData
from maggma.core import Builder, Store
from maggma.utils import grouper
from pydantic import ValidationError

from gan_htvs import __version__
from gan_htvs.assessment import decide
from gan_htvs.bandgap import BandGapResult, missing_orders
from gan_htvs.builders.documents import (
    VERSIONS,
    latest_gates,
    mapping,
    outputs_by_uuid,
    stored_campaigns,
)
from gan_htvs.candidate import (
    KNOWN_PHASE,
    USER,
    Candidate,
    PrescreenVerdict,
    Proposal,
    RelaxedStructure,
    Stability,
    Stage,
    Step,
)
from gan_htvs.documents import decode, encode, without_id
from gan_htvs.identity import content_hash
from gan_htvs.settings import first_problem
from gan_htvs.store import INDEXES
from gan_htvs.words import in_one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pymatgen.core import Structure

    from gan_htvs.campaign import Campaign


Header = dict[str, Any]
"""What is known of a candidate's inputs before they are read: uuids and completion times."""

Place = tuple[str, str | None, int]
"""Uuid of an output, the field, and the position in its list; no field: the output itself."""

UNSAMPLED = frozenset({KNOWN_PHASE, USER})
"""Proposers without a sampling job: the structure is read from the verdict."""

Item = dict[str, Any]
"""One candidate, ready to build: campaign, proposal, verdict, gap and the state of its inputs."""


class CandidateBuilder(Builder):
    """Write one document per proposed structure, from whatever has been computed for it so far.

    Only candidates whose inputs or campaign settings have changed are built again; a second run
    changes nothing. The stage follows from the final stability and the thresholds of the stored
    campaign, and what the gate decided stands beside it.

    Parameters
    ----------
    outputs
        Documents of the JobStore, keyed by ``uuid``.
    campaigns
        Campaign settings, keyed by ``name``.
    stability
        What :class:`gan_htvs.builders.stability.StabilityBuilder` wrote.
    candidates
        Target, keyed by ``candidate_id``.
    """

    def __init__(
        self,
        outputs: Store,
        campaigns: Store,
        stability: Store,
        candidates: Store,
        chunk_size: int = 100,
    ) -> None:
        self.outputs = outputs
        self.campaigns = campaigns
        self.stability = stability
        self.candidates = candidates
        super().__init__([outputs, campaigns, stability], [candidates], chunk_size)

    def ensure_indexes(self) -> None:
        """Make the indexes that it needs, and those of questions about candidates."""
        self.outputs.ensure_index("uuid")
        self.outputs.ensure_index("metadata.campaign")
        self.candidates.ensure_index("candidate_id", unique=True)
        for keys in INDEXES:
            # maggma hands it on to pymongo, which takes several fields, too.
            self.candidates.ensure_index(keys)

    def get_items(self) -> Iterator[Item]:
        """Yield the inputs of every candidate that is out of date."""
        self.ensure_indexes()
        campaigns = stored_campaigns(self.campaigns)
        stale_of = [(campaign, self._stale(campaign)) for campaign in campaigns]
        self.total = sum(len(stale) for _, stale in stale_of)
        for campaign, stale in stale_of:
            for chunk in grouper(stale, self.chunk_size):
                yield from self._read(campaign, chunk)

    def process_item(self, item: Item) -> dict[str, Any]:
        """Join the inputs of one candidate into its document."""
        proposal: Proposal = item["proposal"]
        proposed: dict[str, Any] = {
            "candidate_id": proposal.candidate_id,
            "campaign": item["campaign"].name,
            "origin": proposal.origin,
            "generated_structure": proposal.structure,
            "last_updated": datetime.now(UTC),
            "builder_meta": VERSIONS | {"state": item["state"]},
            "stage": Stage.GENERATED,
            "prescreen": item["prescreen"],
            **_describe(proposal.structure),
        }
        if item["stability"] is None:
            return encode(Candidate(**proposed | _rejected(item["prescreen"])))
        try:
            found = _judged(item["campaign"], item["verdict"], item["stability"], item["gap"])
            return encode(Candidate(**proposed | found))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other candidates go on
            if isinstance(error, ValidationError):
                reason = first_problem(error)
            else:
                reason = in_one_line(error)
            self.logger.warning("candidate %s: %s", proposal.candidate_id, reason)
            return encode(Candidate(**proposed | {"stage": Stage.FAILED, "reason": reason}))

    def update_targets(self, items: list[dict[str, Any]]) -> None:
        """Write documents, replacing older ones of the same candidate."""
        if items:
            self.candidates.update(items, key="candidate_id")

    def _stale(self, campaign: Campaign) -> list[Header]:
        """Headers of the candidates whose inputs are not those that their document was made of."""
        built = {
            document["candidate_id"]: document["builder_meta"]["state"]
            for document in self.candidates.query(
                {"campaign": campaign.name}, ["candidate_id", "builder_meta.state"]
            )
        }
        headers = self._headers(campaign.name)
        for header in headers:
            header["state"] = content_hash(__version__, campaign, header)
        return [
            header for header in headers if built.get(header["candidate_id"]) != header["state"]
        ]

    def _headers(self, campaign: str) -> list[Header]:
        """Find the inputs of every candidate of a campaign, by uuid and completion time."""
        gates = latest_gates(
            self.outputs, [campaign], ["output.band_gap_job", "output.origin.proposer"]
        )
        wanted = [gate["output"].get("band_gap_job") for gate in gates.values()]
        gaps = {
            gap["uuid"]: str(gap.get("completed_at"))
            for gap in self.outputs.query(
                {"uuid": {"$in": [uuid for uuid in wanted if uuid]}}, ["uuid", "completed_at"]
            )
        }
        stability = {
            document["candidate_id"]: str(document["last_updated"])
            for document in self.stability.query(
                {"campaign": campaign}, ["candidate_id", "last_updated"]
            )
        }
        prescreens = self._prescreened(campaign)
        proposals = self._sampled(campaign) | {
            candidate_id: (gate["uuid"], None, 0)
            for candidate_id, gate in gates.items()
            if (gate["output"].get("origin") or {}).get("proposer") in UNSAMPLED
        }
        headers = []
        for candidate_id, proposal in proposals.items():
            gate = gates.get(candidate_id)
            gap = gate and gate["output"].get("band_gap_job")
            headers.append(
                {
                    "candidate_id": candidate_id,
                    "proposal": proposal,
                    "screened": prescreens.get(candidate_id),
                    "gate": gate and (gate["uuid"], str(gate.get("completed_at"))),
                    "stability": stability.get(candidate_id) if gate else None,
                    "gap": (gap, gaps[gap]) if gap in gaps else None,
                }
            )
        return headers

    def _sampled(self, campaign: str) -> dict[str, Place]:
        """Find the proposals of the sampling jobs, by candidate."""
        return {
            proposal["candidate_id"]: (document["uuid"], "proposals", index)
            for document in self._outputs_of(
                campaign, [Step.PROPOSE], ["output.proposals.candidate_id"]
            )
            for index, proposal in enumerate(mapping(document).get("proposals") or ())
        }

    def _prescreened(self, campaign: str) -> dict[str, Place]:
        """Find the last verdicts of the prescreen and of the selection after it, by candidate."""
        fields = {
            "screened": "output.screened.verdict.candidate_id",
            "rejected": "output.rejected.candidate_id",
            "survivors": "output.survivors.prescreen.candidate_id",
        }
        steps = [Step.PRESCREEN, Step.SELECT]
        places: dict[str, Place] = {}
        for document in self._outputs_of(campaign, steps, list(fields.values())):
            for field in fields:
                for index, each in enumerate(mapping(document).get(field) or ()):
                    verdict = _verdict(field, each)
                    if verdict is not None:
                        places[verdict["candidate_id"]] = (document["uuid"], field, index)
        return places

    def _outputs_of(
        self, campaign: str, steps: list[Step], fields: list[str]
    ) -> list[dict[str, Any]]:
        """Read fields of the outputs of some steps, in the order of their completion."""
        documents = self.outputs.query(
            {"metadata.campaign": campaign, "metadata.step": {"$in": [s.value for s in steps]}},
            ["uuid", "completed_at", *fields],
        )
        return sorted(documents, key=lambda each: (str(each.get("completed_at")), each["uuid"]))

    def _read(self, campaign: Campaign, headers: Iterable[Header]) -> Iterator[Item]:
        """Fetch the inputs of some candidates, each document once."""
        headers = list(headers)
        parts = ("proposal", "screened", "gate", "gap")
        uuids = {header[part][0] for header in headers for part in parts if header[part]}
        outputs = outputs_by_uuid(self.outputs, uuids)
        placed = [header["candidate_id"] for header in headers if header["stability"]]
        stability = {
            document["candidate_id"]: without_id(document)
            for document in self.stability.query({"candidate_id": {"$in": placed}})
        }
        for header in headers:
            try:
                proposal = _proposal(outputs, header["proposal"])
                prescreen = _prescreen(outputs, header["screened"])
            except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
                self.logger.warning("candidate %s is skipped: %s", header["candidate_id"], error)
                continue
            yield {
                "campaign": campaign,
                "proposal": proposal,
                "prescreen": prescreen,
                "verdict": header["gate"] and mapping({"output": outputs[header["gate"][0]]}),
                "stability": stability.get(header["candidate_id"]),
                "gap": header["gap"] and _gap(outputs[header["gap"][0]]),
                "state": header["state"],
            }


def _proposal(outputs: Mapping[str, Any], place: Place) -> Proposal:
    """Read a proposal from the output of its sampling job, or of its gate."""
    uuid, field, index = place
    if field is None:
        verdict = outputs[uuid]
        return Proposal(
            candidate_id=verdict["candidate_id"],
            structure=decode(verdict["generated_structure"]),
            origin=decode(verdict["origin"]),
        )
    return Proposal.model_validate(decode(outputs[uuid][field][index]))


def _prescreen(outputs: Mapping[str, Any], place: Place | None) -> PrescreenVerdict | None:
    """Read the verdict of the prescreen, or of the selection if that came later."""
    if place is None:
        return None
    uuid, field, index = place
    verdict = _verdict(str(field), outputs[uuid][field][index])
    return PrescreenVerdict.model_validate(decode(verdict))


def _verdict(field: str, entry: dict[str, Any]) -> dict[str, Any] | None:
    """Return the verdict in an entry of the output of a prescreen or a selection."""
    match field:
        case "screened":
            return entry["verdict"]
        case "survivors":
            return entry.get("prescreen")  # None: there was no prescreen
    return entry


def _rejected(prescreen: PrescreenVerdict | None) -> dict[str, Any]:
    """Return the stage of a candidate that the prescreen rejected."""
    if prescreen is None or prescreen.survives:
        return {}
    return {"stage": Stage.REJECTED, "reason": f"{prescreen.rejected_at}: {prescreen.reason}"}


def _judged(
    campaign: Campaign,
    verdict: dict[str, Any],
    stored: dict[str, Any],
    gap: BandGapResult | None,
) -> dict[str, Any]:
    """Fields of a candidate that has met the gate."""
    stability = Stability.model_validate(decode(stored))
    at_gate = verdict.get("assessment") or {}
    fields: dict[str, Any] = {
        "stage": stability.stage or Stage.FAILED,
        "reason": stability.reason,
        "failure": verdict.get("failure") and decode(verdict["failure"]),
        "gate": {
            "stage": verdict.get("stage"),
            "reason": verdict.get("reason"),
            "references": verdict.get("references"),
            "energy_above_hull": at_gate.get("energy_above_hull"),
        },
    }
    if verdict.get("relaxed") is None or stability.level_of_theory is None:
        return fields
    relaxed = RelaxedStructure.model_validate(decode(verdict["relaxed"]))
    fields |= {
        "structure": relaxed.structure,
        "oxidation_states": relaxed.oxidation_states,
        "level_of_theory": relaxed.level_of_theory,
        "novelty": stability.novelty,
        "duplicate_of": stability.duplicate_of,
        "duplicates": stability.duplicates,
        **_describe(relaxed.structure),
    }
    assessment = stability.assessment
    if assessment is None:
        return fields
    stage, reason = decide(assessment, gap, campaign.thresholds)
    return fields | {
        "stage": stage,
        "reason": reason,
        "energy_per_atom": relaxed.energy_per_atom,
        "energy_incomplete": missing_orders(relaxed.magnetic_orders),
        "formation_energy_per_atom": assessment.formation_energy_per_atom,
        "energy_above_hull": assessment.energy_above_hull,
        "energy_above_references": stability.energy_above_references,
        "decomposes_to": assessment.decomposes_to,
        "pourbaix": assessment.pourbaix,
        **_gap_fields(gap),
    }


def _describe(structure: Structure) -> dict[str, Any]:
    """Fields that follow from a structure alone."""
    composition = structure.composition
    return {
        "formula_pretty": composition.reduced_formula,
        "chemsys": composition.chemical_system,
        "nsites": len(structure),
        "symmetry": SymmetryData.from_structure(structure),
    }


def _gap(output: dict[str, Any]) -> BandGapResult:
    try:
        return BandGapResult.model_validate(decode(output))
    except Exception as error:  # noqa: BLE001 - whatever it is, there is no gap
        return BandGapResult.not_computed(f"its band gap job left what cannot be read: {error}")


def _gap_fields(gap: BandGapResult | None) -> dict[str, Any]:
    if gap is None:
        return {}
    return {
        **({"failure": gap.failure} if gap.failure else {}),
        "band_gap": gap.band_gap if gap.is_complete else None,
        "incomplete_band_gap": None if gap.is_complete else gap.band_gap,
        "is_gap_direct": gap.is_gap_direct,
        "band_gap_method": gap.method if gap.band_gap is not None else None,
        "band_gap_reason": gap.reason,
        "band_gap_result": gap,
    }
