from __future__ import annotations

import pytest
from maggma.stores import MemoryStore
from monty.json import jsanitize
from pymatgen.core import Lattice, Structure

from gan_htvs.bandgap import BandGapResult
from gan_htvs.builders.candidates import CandidateBuilder
from gan_htvs.campaign import Campaign
from gan_htvs.candidate import Assessment, Origin, Proposal, Relaxed, Stage, Step, Verdict
from gan_htvs.store import CandidateStore
from gan_htvs.thermodynamics.hull import ReferenceEnergy, ReferenceSet

SETTINGS = {
    "name": "mg-o",
    "chemical_system": {"caps": {"Mg": 4, "O": 4}},
    "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
}
LEVEL = "CHGNet-0.3.0"
MAGNESIA = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
).get_primitive_structure()
REFERENCES = ReferenceSet(
    entries=tuple(
        ReferenceEnergy(name=f, formula=f, energy_per_atom=e, level_of_theory=LEVEL)
        for f, e in {"Mg": -1.58, "O2": -4.94795546875, "MgO": -6.314}.items()
    )
)


class Laboratory:
    """Stores as jobs leave them, and a builder over them."""

    def __init__(self):
        self.outputs = MemoryStore(key="uuid")
        self.campaigns = MemoryStore(key="name")
        self.candidates = MemoryStore(key="candidate_id")
        for store in (self.outputs, self.campaigns, self.candidates):
            store.connect()
        self.configure(SETTINGS)
        self.job("references", Step.REFERENCES, REFERENCES)
        self.clock = 0

    def configure(self, settings):
        campaign = Campaign.model_validate(settings)
        self.campaigns.update(
            [{"name": campaign.name, "settings": campaign.model_dump(mode="json")}]
        )

    def job(self, uuid, step, output, **metadata):
        self.clock = getattr(self, "clock", 0) + 1
        self.outputs.update(
            [
                {
                    "uuid": uuid,
                    "completed_at": f"2026-01-01T00:00:{self.clock:02d}",
                    "metadata": {"campaign": "mg-o", "step": step.value, **metadata},
                    "output": jsanitize(output, strict=True, enum_values=True),
                }
            ]
        )

    def propose(self, *ids):
        proposals = [
            Proposal(
                candidate_id=candidate_id,
                structure=MAGNESIA,
                origin=Origin(proposer="gan", requested_composition="MgO", index=i),
            )
            for i, candidate_id in enumerate(ids)
        ]
        self.job(f"propose {ids}", Step.PROPOSE, {"proposals": proposals})

    def gate(self, candidate_id, excess=0.0, gap_job=None):
        verdict = Verdict(
            candidate_id=candidate_id,
            relaxed=Relaxed(
                structure=MAGNESIA,
                energy_per_atom=-6.314 + excess,
                level_of_theory=LEVEL,
                converged=True,
            ),
            assessment=Assessment(
                formation_energy_per_atom=-3, energy_above_hull=excess, decomposes_to={"MgO": 1}
            ),
            stage=Stage.STABLE,
            references="references",
            band_gap_job=gap_job,
        )
        self.job(f"gate {candidate_id}", Step.GATE, verdict, candidate_id=candidate_id)

    def build(self):
        builder = CandidateBuilder(self.outputs, self.campaigns, self.candidates)
        documents = [builder.process_item(item) for item in builder.get_items()]
        builder.update_targets(documents)
        return {document["candidate_id"] for document in documents}

    def __getitem__(self, candidate_id):
        return CandidateStore(self.candidates).get(candidate_id)


@pytest.fixture
def lab():
    return Laboratory()


def test_proposals_are_candidates_before_anything_is_computed(lab):
    lab.propose("a", "b")
    assert lab.build() == {"a", "b"}
    candidate = lab["a"]
    assert candidate.stage is Stage.GENERATED
    assert (candidate.formula_pretty, candidate.symmetry.number) == ("MgO", 225)
    assert candidate.generated_structure == MAGNESIA
    assert candidate.energy_above_hull is None


def test_a_second_run_changes_nothing(lab):
    lab.propose("a", "b")
    lab.gate("a")
    lab.build()
    before = list(lab.candidates.query())
    assert lab.build() == set()
    assert list(lab.candidates.query()) == before


def test_new_documents_change_exactly_the_candidates_that_they_are_about(lab):
    lab.propose("a", "b")
    lab.build()
    lab.gate("b", excess=0.1)
    assert lab.build() == {"b"}
    assert lab["b"].energy_above_hull == pytest.approx(0.1)
    assert lab["b"].stage is Stage.RELAXED
    assert lab["a"].stage is Stage.GENERATED


def test_a_band_gap_that_arrives_later_finishes_its_candidate(lab):
    lab.propose("a")
    lab.gate("a", gap_job="gap")
    lab.build()
    assert lab["a"].reason == "band gap not computed yet"
    lab.job("gap", Step.BAND_GAP, BandGapResult(band_gap=2.5, method="HSE06@PBE (test)"))
    assert lab.build() == {"a"}
    assert lab["a"].stage is Stage.PHOTOANODE
    assert (lab["a"].band_gap, lab["a"].band_gap_method) == (2.5, "HSE06@PBE (test)")


def test_a_gap_that_was_not_computed_says_why(lab):
    lab.propose("a")
    lab.gate("a", gap_job="gap")
    lab.job("gap", Step.BAND_GAP, BandGapResult.not_computed("GPAW is not installed"))
    lab.build()
    assert lab["a"].band_gap is None
    assert lab["a"].band_gap_method is None
    assert lab["a"].reason == "GPAW is not installed"


def test_new_thresholds_are_applied_to_what_is_stored_and_the_gate_is_remembered(lab):
    lab.propose("a")
    lab.gate("a", excess=0.1)
    lab.build()
    lab.configure(SETTINGS | {"thresholds": {"synthesizable": 0.15}})
    assert lab.build() == {"a"}
    assert lab["a"].stage is Stage.POURBAIX_STABLE
    assert lab["a"].gate["energy_above_hull"] == pytest.approx(0.1)


def test_rows_are_sorted_by_stability_and_filtered(lab):
    lab.propose("a", "b", "c", "d")
    lab.gate("a", excess=0.3)
    lab.gate("b", excess=0.05)
    lab.gate("d", excess=-0.3)  # a hole of the potential
    lab.build()
    store = CandidateStore(lab.candidates)
    assert [row["candidate_id"] for row in store.rows()] == ["b", "a", "c", "d"]
    assert [row["candidate_id"] for row in store.rows(stage=Stage.REJECTED)] == ["a", "d"]
    assert store.rows(campaign="another") == []
    assert [c.candidate_id for c in store.candidates(stage=Stage.GENERATED)] == ["c"]
    assert store.get("nobody") is None
