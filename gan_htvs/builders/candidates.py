"""Builder: outputs of proposals, gates and band gaps -> ``candidates``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from emmet.core.symmetry import SymmetryData
from maggma.core import Builder, Store
from maggma.utils import grouper
from monty.json import MontyDecoder, jsanitize

from gan_htvs import __version__
from gan_htvs.assessment import Judge
from gan_htvs.campaign import Campaign
from gan_htvs.candidate import Candidate, Proposal, Stage, Step, Verdict
from gan_htvs.identity import content_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pymatgen.core import Structure

    from gan_htvs.bandgap import BandGapResult

Header = dict[str, Any]
"""What is known of a candidate's inputs before they are read: uuids and completion times."""

Item = dict[str, Any]
"""One candidate, ready to build: campaign, proposal, verdict, gap and the state of its inputs."""


class CandidateBuilder(Builder):
    """Write one document per proposed structure, from whatever has been computed for it so far.

    Only candidates whose inputs or campaign settings have changed are built again; a second run
    changes nothing. Stability is computed afresh from the energy, with the thresholds of the
    stored campaign, and what the gate decided stands beside it.

    Parameters
    ----------
    outputs
        Documents of the JobStore, keyed by ``uuid``.
    campaigns
        Campaign settings, keyed by ``name``.
    candidates
        Target, keyed by ``candidate_id``.
    """

    def __init__(
        self, outputs: Store, campaigns: Store, candidates: Store, chunk_size: int = 100
    ) -> None:
        self.outputs = outputs
        self.campaigns = campaigns
        self.candidates = candidates
        self._judges: dict[str, Judge] = {}
        super().__init__([outputs, campaigns], [candidates], chunk_size)

    def get_items(self) -> Iterator[Item]:
        """Yield the inputs of every candidate that is out of date."""
        self.outputs.ensure_index("uuid")
        self.outputs.ensure_index("metadata.campaign")
        self.candidates.ensure_index("candidate_id", unique=True)
        for document in self.campaigns.query():
            campaign = Campaign.model_validate(document["settings"])
            stale = self._stale(campaign)
            for chunk in grouper(stale, self.chunk_size):
                yield from self._read(campaign, chunk)

    def process_item(self, item: Item) -> dict[str, Any]:
        """Join the inputs of one candidate into its document."""
        proposal: Proposal = item["proposal"]
        fields: dict[str, Any] = {"stage": Stage.GENERATED, **_describe(proposal.structure)}
        if item["verdict"] is not None:
            fields |= self._judged(item["campaign"], item["verdict"], item["gap"])
        candidate = Candidate(
            candidate_id=proposal.candidate_id,
            campaign=item["campaign"].name,
            origin=proposal.origin,
            generated_structure=proposal.structure,
            last_updated=datetime.now(UTC),
            builder_meta={"gan_htvs": __version__, "state": item["state"]},
            **fields,
        )
        return jsanitize(candidate.model_dump(), strict=True, enum_values=True, allow_bson=True)

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
        gates = {
            gate["metadata"]["candidate_id"]: gate
            for gate in self._outputs_of(campaign, Step.GATE, ["metadata", "output.band_gap_job"])
        }
        wanted = [gate["output"].get("band_gap_job") for gate in gates.values()]
        gaps = {
            gap["uuid"]: gap["completed_at"]
            for gap in self.outputs.query(
                {"uuid": {"$in": [uuid for uuid in wanted if uuid]}}, ["uuid", "completed_at"]
            )
        }
        headers = {}
        for proposing in self._outputs_of(
            campaign, Step.PROPOSE, ["output.proposals.candidate_id"]
        ):
            for index, proposal in enumerate(proposing["output"]["proposals"]):
                gate = gates.get(proposal["candidate_id"])
                gap = gate and gate["output"].get("band_gap_job")
                headers[proposal["candidate_id"]] = {
                    "candidate_id": proposal["candidate_id"],
                    "proposal": (proposing["uuid"], index),
                    "gate": gate and (gate["uuid"], gate["completed_at"]),
                    "gap": (gap, gaps[gap]) if gap in gaps else None,
                }
        return list(headers.values())

    def _outputs_of(self, campaign: str, step: Step, fields: list[str]) -> Iterable[dict[str, Any]]:
        return self.outputs.query(
            {"metadata.campaign": campaign, "metadata.step": step.value},
            ["uuid", "completed_at", *fields],
        )

    def _read(self, campaign: Campaign, headers: Iterable[Header]) -> Iterator[Item]:
        """Fetch the inputs of some candidates, each document once."""
        headers = list(headers)
        uuids = {
            header[part][0]
            for header in headers
            for part in ("proposal", "gate", "gap")
            if header[part] is not None
        }
        outputs = {
            document["uuid"]: document["output"]
            for document in self.outputs.query({"uuid": {"$in": sorted(uuids)}}, ["uuid", "output"])
        }
        for header in headers:
            uuid, index = header["proposal"]
            yield {
                "campaign": campaign,
                "proposal": _decode(outputs[uuid]["proposals"][index]),
                "verdict": header["gate"] and _decode(outputs[header["gate"][0]]),
                "gap": header["gap"] and _decode(outputs[header["gap"][0]]),
                "state": header["state"],
            }

    def _judged(
        self, campaign: Campaign, verdict: Verdict, gap: BandGapResult | None
    ) -> dict[str, Any]:
        """Fields of a candidate that has met the gate."""
        gate = {
            "stage": verdict.stage,
            "reason": verdict.reason,
            "references": verdict.references,
        }
        relaxed = verdict.relaxed
        if relaxed is None:
            return {"stage": verdict.stage, "reason": verdict.reason, "gate": gate}
        fields = {
            "structure": relaxed.structure,
            "level_of_theory": relaxed.level_of_theory,
            **_describe(relaxed.structure),
        }
        if verdict.assessment is None:
            return fields | {"stage": verdict.stage, "reason": verdict.reason, "gate": gate}
        judge = self._judge(campaign, verdict.references)
        assessment = judge.assess(relaxed)
        stage, reason = judge.decide(assessment, gap)
        return fields | {
            "stage": stage,
            "reason": reason,
            "gate": gate | {"energy_above_hull": verdict.assessment.energy_above_hull},
            "energy_per_atom": relaxed.energy_per_atom,
            "formation_energy_per_atom": assessment.formation_energy_per_atom,
            "energy_above_hull": assessment.energy_above_hull,
            "decomposes_to": assessment.decomposes_to,
            "pourbaix": assessment.pourbaix,
            **_gap_fields(gap),
        }

    def _judge(self, campaign: Campaign, references: str) -> Judge:
        key = content_hash(campaign, references)
        if key not in self._judges:
            document = self.outputs.query_one({"uuid": references})
            self._judges[key] = Judge.of(campaign, _decode(document["output"]))
        return self._judges[key]


def _decode(document: Mapping[str, Any]) -> Any:
    return MontyDecoder().process_decoded(document)


def _describe(structure: Structure) -> dict[str, Any]:
    """Fields that follow from a structure alone."""
    composition = structure.composition
    return {
        "formula_pretty": composition.reduced_formula,
        "chemsys": composition.chemical_system,
        "nsites": len(structure),
        "symmetry": SymmetryData.from_structure(structure),
    }


def _gap_fields(gap: BandGapResult | None) -> dict[str, Any]:
    if gap is None:
        return {}
    return {
        "band_gap": gap.band_gap,
        "is_gap_direct": gap.is_gap_direct,
        "band_gap_method": gap.method if gap.band_gap is not None else None,
        "band_gap_reason": gap.reason,
        "band_gap_result": gap,
    }
