from __future__ import annotations

import numpy as np
import pytest

from gan_htvs.core.band_gap import BandGapResult
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.stages import Stage, Step
from gan_htvs.dataset.training_set import Dataset
from gan_htvs.results.builders.candidates import CandidateBuilder
from gan_htvs.results.builders.optimade import entry
from gan_htvs.results.builders.stability import StabilityBuilder
from gan_htvs.results.store import CandidateStore
from gan_htvs.structures.point_cloud import encode
from tests.helpers import CHGNET

from .conftest import (
    MGO_PER_ATOM,
    SETTINGS,
    Laboratory,
    cubic,
    fluorite,
    references,
    rocksalt,
    zincblende,
)


def tie_line_energy():
    """Return the energy of MgO2 on the tie line from MgO to O2, eV/atom."""
    return (2 * MGO_PER_ATOM - 4.94795546875) / 3


def strained(structure):
    """Strain a structure in place, which gives another crystal."""
    structure.apply_strain([0.3, 0, -0.2])
    return structure


def lab_with(*ids):
    lab = Laboratory()
    lab.propose(*ids)
    return lab


def test_lowest_energy_candidate_lists_its_duplicates(lab):
    lab.propose("a", "b", "c", "d")
    lab.gate("a", 0.03)
    lab.gate("b", 0.02, structure=rocksalt(a=4.25))
    lab.gate("c", 0.04, structure=zincblende())
    lab.gate("d", 0.05, structure=rocksalt(a=4.3))
    lab.build()
    assert [lab[i].duplicate_of for i in "abcd"] == ["b", None, None, "b"]
    assert lab["b"].duplicates == ["a", "d"]
    assert lab["c"].duplicates == []


def test_candidate_of_an_uncovered_system_is_marked(lab):
    elements = tuple(entry for entry in lab.references.entries if entry.composition.is_element)
    lab.references = lab.references.model_validate({"entries": elements})
    lab.job("elements", Step.REFERENCES, lab.references)
    lab.propose("a")
    lab.gate("a")
    lab.build()
    assert lab.references.uncovered_subsystems == ("Mg-O",)
    assert lab["a"].uncovered_subsystems == ["Mg-O"]
    assert lab.build() == set()


def test_candidate_of_a_covered_system_is_not_marked(lab):
    lab.propose("a", "b")
    lab.gate("a")
    lab.build()
    assert lab["a"].uncovered_subsystems == []
    assert lab["b"].uncovered_subsystems is None  # no energy


def test_lower_duplicate_changes_only_its_crystal(lab):
    lab.propose("a", "b", "c")
    lab.gate("a", 0.03)
    lab.gate("c", 0.04, structure=zincblende())
    lab.build()
    lab.gate("b", 0.01)
    assert lab.build() == {"a", "b"}
    assert (lab["a"].duplicate_of, lab["b"].duplicates) == ("b", ["a"])


def test_implausibly_low_energy_has_no_duplicates(lab):
    lab.propose("a", "artifact")
    lab.gate("a", 0.03)
    lab.gate("artifact", -0.5)
    lab.build()
    assert lab["a"].duplicate_of is None
    assert lab["artifact"].novelty is None
    assert lab["artifact"].stage == Stage.REJECTED
    assert lab["artifact"].energy_above_hull is None
    assert lab["artifact"].decomposition_energy is None
    assert lab["artifact"].reference_decomposition_energy == pytest.approx(-0.5)
    assert lab["a"].energy_above_hull == pytest.approx(0.03)


def test_lowest_energy_of_the_settings(lab):
    lab.configure(SETTINGS | {"references": {"lowest_decomposition_energy": -0.6}})
    lab.propose("a", "low")
    lab.gate("a", 0.03)
    lab.gate("low", -0.5)
    lab.build()
    assert lab["a"].duplicate_of == "low"
    assert lab["low"].novelty is not None
    assert lab["low"].stage != Stage.REJECTED

    lab.configure(SETTINGS | {"references": {"lowest_decomposition_energy": -0.2}})
    assert lab.build() == {"a", "low"}
    assert lab["a"].duplicate_of is None
    assert lab["low"].stage == Stage.REJECTED
    assert "-0.500 < -0.2 eV/atom (references.lowest_decomposition_energy)" in lab["low"].reason


def test_stable_candidate_lowers_the_hull_of_all_other_crystals(lab):
    lab.propose("peroxide", "same", "worse")
    lab.gate("worse", structure=fluorite(), energy_per_atom=tie_line_energy() + 0.05)
    lab.build()
    assert lab["worse"].energy_above_hull == pytest.approx(0.05)

    other = strained(fluorite())
    lab.gate("peroxide", structure=other, energy_per_atom=tie_line_energy() - 0.04)
    lab.gate("same", structure=other, energy_per_atom=tie_line_energy() - 0.03)
    assert lab.build() == {"peroxide", "same", "worse"}
    assert lab["worse"].energy_above_hull == pytest.approx(0.09)
    assert lab["worse"].reference_decomposition_energy == pytest.approx(0.05)
    assert lab["worse"].decomposes_to == {"MgO2 (peroxide)": pytest.approx(1)}
    # A stable phase is compared with all others.
    assert lab["same"].duplicate_of == "peroxide"
    assert lab["peroxide"].energy_above_hull == 0
    assert lab["peroxide"].decomposition_energy == pytest.approx(-0.04)
    assert set(lab["peroxide"].decomposes_to) == {"MgO", "O2"}
    assert lab["same"].energy_above_hull == pytest.approx(0.01)
    assert lab["same"].decomposition_energy == pytest.approx(0.01)
    assert lab["same"].reference_decomposition_energy == pytest.approx(-0.03)


def test_candidates_of_other_campaigns_compete(lab):
    lab.configure(SETTINGS | {"name": "another"})
    lab.propose("worse")
    lab.gate("worse", structure=fluorite(), energy_per_atom=tie_line_energy() + 0.05)
    lab.gate(
        "stable",
        structure=strained(fluorite()),
        energy_per_atom=tie_line_energy() - 0.04,
        proposer="user",
    )
    gate = lab.outputs.query_one({"uuid": "gate stable"})
    gate["metadata"]["campaign"] = "another"
    lab.outputs.update([gate])
    lab.build()
    assert lab["worse"].energy_above_hull == pytest.approx(0.09)


@pytest.mark.parametrize("order", ["abcd", "dcba", "bdac"])
def test_result_does_not_depend_on_the_order_of_outputs(order):
    gates = {
        "a": {"excess": 0.03},
        "b": {"excess": 0.02, "structure": rocksalt(a=4.25)},
        "c": {"structure": fluorite(), "energy_per_atom": tie_line_energy() - 0.02},
        "d": {"excess": 0.05, "structure": zincblende()},
    }
    at_once, one_by_one = lab_with(*"abcd"), lab_with(*"abcd")
    for candidate_id, gate in gates.items():
        at_once.gate(candidate_id, **gate)
    at_once.build()
    for candidate_id in order:
        one_by_one.gate(candidate_id, **gates[candidate_id])
        one_by_one.build()
    for candidate_id in gates:
        first, second = (
            lab[candidate_id].model_dump(exclude={"last_updated", "builder_meta"})
            for lab in (at_once, one_by_one)
        )
        assert first.pop("gate") == second.pop("gate")
        assert first == second


def test_second_build_writes_nothing(lab):
    lab.propose("a", "b", "c")
    lab.gate("a", 0.03)
    lab.gate("b", 0.02)
    lab.gate("c", structure=fluorite(), energy_per_atom=tie_line_energy() - 0.02)
    lab.build()
    before = list(lab.candidates.query())
    assert lab.build() == set()
    assert list(lab.candidates.query()) == before


@pytest.mark.parametrize("n_builders", [1, 2])
def test_next_build_completes_an_interrupted_one(lab, n_builders):
    lab.propose("a", "b")
    lab.gate("a", 0.03)
    lab.gate("b", 0.02)
    for kind in (CandidateBuilder, StabilityBuilder)[:n_builders]:
        builder = kind(lab.outputs, lab.campaigns, lab.candidates)
        builder.update_targets([builder.process_item(item) for item in builder.get_items()])
    assert lab["a"].energy_above_hull is None
    lab.build()
    assert lab["a"].energy_above_hull == pytest.approx(0.03)
    assert lab["a"].duplicate_of == "b"


def test_comparison_results_are_kept_until_the_next_comparison(lab):
    lab.propose("a", "b")
    lab.gate("a", 0.01, gap_job="gap")
    lab.gate("b", 0.02)
    lab.build()
    lab.job("gap", Step.BAND_GAP, BandGapResult(band_gap=2.5, method="HSE06@PBE (test)"))
    builder = CandidateBuilder(lab.outputs, lab.campaigns, lab.candidates)
    builder.update_targets([builder.process_item(item) for item in builder.get_items()])
    assert lab["a"].band_gap == 2.5
    assert lab["a"].energy_above_hull == pytest.approx(0.01)
    assert lab["a"].duplicates == ["b"]
    assert list(StabilityBuilder(lab.outputs, lab.campaigns, lab.candidates).get_items()) == []
    assert lab.build() == {"a"}
    assert lab["a"].stage == "photoanode"


def test_failed_candidate_is_rebuilt_only_after_a_new_gate(lab):
    lab.propose("a", "b", "c", "d")
    for candidate_id in "abc":
        lab.fail(candidate_id)
    lab.build()
    lab.fail("d")
    builder = CandidateBuilder(lab.outputs, lab.campaigns, lab.candidates)
    assert [item["header"]["candidate_id"] for item in builder.get_items()] == ["d"]
    lab.gate("b")
    assert lab.build() == {"b", "d"}
    assert [i for i in "abcd" if lab[i].stage == Stage.FAILED] == ["a", "c", "d"]
    lab.fail("b")
    lab.build()
    assert (lab["b"].stage, lab["b"].energy_above_hull) == (Stage.FAILED, None)


def test_duplicates_are_of_the_same_level_of_theory(lab):
    sevennet = references("SevenNet-0+MP2020")
    lab.job("sevennet", Step.REFERENCES, sevennet)
    lab.propose("a", "b", "c")
    lab.gate("a", 0.03)
    lab.gate("b", 0.02)
    lab.gate("c", 0.01, level_of_theory="SevenNet-0+MP2020", references=sevennet)
    lab.build()
    assert [lab[i].duplicate_of for i in "abc"] == ["b", None, None]
    assert lab["a"].energy_above_hull == pytest.approx(0.03)
    assert lab["c"].energy_above_hull == pytest.approx(0.01)


def test_reference_phase_of_another_reference_set_competes(lab):
    larger = references(MgO2=tie_line_energy() - 0.04)
    lab.job("larger", Step.REFERENCES, larger)
    lab.propose("a", "phase")
    lab.gate("a", structure=strained(fluorite()), energy_per_atom=tie_line_energy())
    lab.gate(
        "phase",
        structure=fluorite(),
        energy_per_atom=tie_line_energy() - 0.04,
        proposer="reference_phase",
        references=larger,
    )
    lab.build()
    assert lab["a"].energy_above_hull == pytest.approx(0.04)


def known_peroxide(lab, name, energy, **gate):
    """Store a candidate of a reference set with MgO2 at the tie-line energy minus 0.04 eV/atom.

    ``energy`` is relative to that phase, eV/atom.
    """
    larger = references(MgO2=tie_line_energy() - 0.04)
    lab.job("larger", Step.REFERENCES, larger)
    energy += tie_line_energy() - 0.04
    lab.gate(name, structure=fluorite(), energy_per_atom=energy, references=larger, **gate)


@pytest.fixture
def peroxide(lab):
    """Return a laboratory with MgO2 as a reference phase, and other MgO2 0.02 eV/atom above it."""
    lab.propose("a", "b", "other")
    known_peroxide(lab, "phase", 0.0, proposer="reference_phase", label="MgO2")
    other = tie_line_energy() - 0.02
    larger = references(MgO2=tie_line_energy() - 0.04)
    lab.gate("other", structure=strained(fluorite()), energy_per_atom=other, references=larger)
    return lab


@pytest.mark.parametrize("difference", [-0.00023, 0.0, 0.00023])
def test_candidate_that_is_a_reference_phase_moves_nothing(peroxide, difference):
    peroxide.build()
    before = [peroxide[name].decomposition_energy for name in ("phase", "other")]
    assert before == pytest.approx([-0.02, 0.02])
    known_peroxide(peroxide, "a", difference)
    peroxide.build()
    known = peroxide["a"]
    assert known.novelty.reference_match == "MgO2"
    assert known.energy_above_hull == pytest.approx(max(difference, 0))
    stable = difference <= 0
    assert known.decomposition_energy == pytest.approx(difference - 0.02 * stable)
    assert set(known.decomposes_to) == ({"MgO2 (other)"} if stable else {"MgO2"})
    assert known.reference_decomposition_energy == pytest.approx(difference)
    assert peroxide["phase"].energy_above_hull == 0
    after = [peroxide[name].decomposition_energy for name in ("phase", "other")]
    assert after == before
    assert peroxide.build() == set()


def test_much_lower_candidate_competes_with_the_reference_phase_that_it_matches(peroxide):
    known_peroxide(peroxide, "a", -0.03)
    peroxide.build()
    assert peroxide["a"].novelty.reference_match == "MgO2"
    assert peroxide["a"].decomposition_energy == pytest.approx(-0.03)
    assert peroxide["a"].decomposes_to == {"MgO2": 1}
    assert peroxide["phase"].energy_above_hull == pytest.approx(0.03)
    assert peroxide["other"].energy_above_hull == pytest.approx(0.05)


def test_duplicates_of_a_reference_phase_stay_in_order(peroxide):
    known_peroxide(peroxide, "a", -0.0001)
    known_peroxide(peroxide, "b", -0.0002)
    peroxide.build()
    assert peroxide["a"].energy_above_hull == peroxide["b"].energy_above_hull == 0
    store = CandidateStore(peroxide.candidates)
    (found,) = store.rows(reference_phases=False, unique=True, energy_above_hull="..0")
    assert found["candidate_id"] == "b"


def test_phases_on_the_hull_are_at_zero():
    """Rounding errors of the hull are no distances, whatever the energies are."""
    lab = Laboratory()
    energies = {"Mg": -1.5921, "O2": -4.94795546875, "MgO": -6.3141, "MgO2": -5.9023}
    larger = references(**energies)
    lab.job("larger", Step.REFERENCES, larger)
    structures = {"Mg": cubic(4.5, ("Mg", 0)), "MgO": rocksalt(), "MgO2": fluorite()}
    for name, structure in structures.items():
        phase = {"energy_per_atom": energies[name], "proposer": "reference_phase", "label": name}
        lab.gate(name, structure=structure, references=larger, **phase)
    lab.build()
    assert [lab[name].energy_above_hull for name in structures] == [0, 0, 0]
    assert lab["Mg"].decomposition_energy == 0
    assert lab["MgO"].decomposition_energy < -1
    assert CandidateStore(lab.candidates).count(energy_above_hull="..0") == 3
    assert entry(lab["MgO"])["energy_above_hull"] == 0


def test_competing_phases_are_named_and_their_shares_add_up(lab):
    lab.propose("a")
    lab.gate("a", structure=fluorite(), energy_per_atom=tie_line_energy() + 0.01)
    lab.build()
    (document,) = lab.candidates.query()
    assert document["decomposes_to"] == {"MgO": 0.666666667, "O2": 0.333333333}


def test_later_reference_set_completes_candidates(lab):
    document = lab.outputs.query_one({"uuid": "references"})
    lab.outputs.remove_docs({"uuid": "references"})
    lab.propose("a", "b")
    lab.gate("a", 0.03)
    lab.gate("b", 0.02)
    lab.build()
    assert lab["a"].energy_above_hull is None
    lab.outputs.update([{key: value for key, value in document.items() if key != "_id"}])
    lab.build()
    assert lab["a"].duplicate_of == "b"
    assert lab["a"].energy_above_hull == pytest.approx(0.03)


def test_latest_of_two_gates_is_used(lab):
    lab.propose("a")
    lab.gate("a", 0.03)
    first = lab.outputs.query_one({"uuid": "gate a"})
    lab.outputs.update([first | {"uuid": "older gate", "completed_at": "2025-01-01", "_id": 1}])
    lab.gate("a", 0.01)
    lab.build()
    assert lab["a"].energy_above_hull == pytest.approx(0.01)
    assert lab["a"].energy_per_atom == pytest.approx(MGO_PER_ATOM + 0.01)


def test_highest_index_of_a_replaced_job_is_used(lab):
    lab.propose("a")
    lab.gate("a", 0.03, index=2)
    lab.gate("a", 0.03)
    first = lab.outputs.query_one({"uuid": "gate a", "index": 1})
    first["completed_at"] = "2025-01-01"
    first["output"]["relaxed"]["energy_per_atom"] = 0.0
    lab.outputs.update([first], key=["uuid", "index"])
    lab.build()
    assert lab["a"].energy_per_atom == pytest.approx(MGO_PER_ATOM + 0.03)


class TestNovelty:
    def test_reference_phase_is_recognized_and_is_not_a_duplicate(self, lab):
        lab.propose("a", "b", "phase")
        lab.gate("phase", structure=rocksalt(), proposer="reference_phase")
        lab.gate("a", 0.001, structure=rocksalt(a=4.3))
        lab.gate("b", 0.05, structure=zincblende(), proposer="random")
        lab.build()
        assert lab["a"].novelty.reference_match == "MgO periclase"
        assert not lab["a"].novelty.is_novel
        assert lab["a"].duplicate_of is None
        assert lab["b"].novelty.reference_match is None
        assert lab["phase"].novelty is None

    def test_training_structure_is_recognized(self, lab):
        system = ChemicalSystem(caps={"Mg": 4, "O": 4})
        learned = Dataset(
            system=system,
            images=encode([zincblende()], system),
            counts=np.array([[1, 1]]),
            labels=("sphalerite MgO",),
        )
        lab.job(
            "train",
            Step.TRAIN,
            {"sha256": "checkpoint", "training_set": learned.as_document()},
        )
        lab.propose("a", "b")
        lab.gate("a", structure=zincblende(a=4.7))
        lab.gate("b", structure=rocksalt())
        lab.build()
        assert lab["a"].novelty.training_match == "sphalerite MgO"
        assert not lab["a"].novelty.is_novel
        assert lab["b"].novelty.is_novel
        assert lab["b"].novelty.training_set == learned.hash

    def test_training_structure_is_not_novel_for_other_proposers(self, lab):
        system = ChemicalSystem(caps={"Mg": 4, "O": 4})
        images = encode([zincblende()], system)
        learned = Dataset(system, images, np.array([[1, 1]]), ("sphalerite MgO",))
        output = {"sha256": "checkpoint", "training_set": learned.as_document()}
        lab.propose("gan", "random")
        lab.gate("gan", 0.01)
        lab.gate("random", structure=zincblende(), proposer="random")
        lab.build()
        assert lab["random"].novelty.is_novel is None  # not known yet
        lab.job("train", Step.TRAIN, output)
        lab.build()
        assert lab["random"].novelty.training_match == "sphalerite MgO"

    def test_structures_found_in_a_round_are_novel(self, lab):
        system = ChemicalSystem(caps={"Mg": 4, "O": 4})
        images, counts = encode([zincblende(), rocksalt()], system), np.array([[1, 1]] * 2)
        enlarged = Dataset(system, images, counts, ("sphalerite MgO", "b"), n_found=1)
        first = enlarged.subset(np.array([0]))
        output = {"sha256": "before", "training_set": first.as_document()}
        lab.job("train", Step.TRAIN, output)
        later = {"sha256": "checkpoint", "first": "before", "round": 2}
        lab.job("train again", Step.TRAIN, later | {"training_set": enlarged.as_document()})
        lab.propose("a", "b")  # of the checkpoint
        lab.gate("a", structure=zincblende(a=4.7))
        lab.gate("b", structure=rocksalt())
        lab.build()
        assert lab["a"].novelty.training_match == "sphalerite MgO"
        assert lab["b"].novelty.is_novel
        assert lab["b"].novelty.training_set == first.hash

    def test_later_generator_resets_the_novelty_of_other_formulas(self, lab):
        lab.propose("random")
        lab.gate("random", structure=zincblende(), proposer="random")
        lab.build()
        assert lab["random"].novelty.is_novel
        lab.propose("gan")
        lab.gate("gan", structure=fluorite(), energy_per_atom=tie_line_energy() + 0.1)
        lab.build()
        assert lab["random"].novelty.is_novel is None

    def test_novelty_without_generator_compares_reference_phases(self, lab):
        lab.propose("a")
        lab.gate("a", structure=zincblende(), proposer="random")
        lab.build()
        assert lab["a"].novelty.is_novel
        assert lab["a"].novelty.training_set is None

    def test_novelty_is_unknown_without_the_training_set(self, lab):
        lab.propose("a", "b", "phase")
        lab.gate("phase", structure=rocksalt(), proposer="reference_phase")
        lab.gate("a", structure=zincblende())
        lab.gate("b", structure=rocksalt())
        lab.build()
        assert lab["a"].novelty.is_novel is None
        assert lab["b"].novelty.is_novel is False


def test_documents_are_complete(lab):
    lab.propose("a")
    lab.gate("a", 0.03)
    lab.build()
    candidate = lab["a"]
    assert candidate.level_of_theory == CHGNET
    assert candidate.pourbaix.settings.potential_vs_rhe == 1.5
    assert candidate.pourbaix.ion_set
    meta = {"gan_htvs", "pymatgen", "state", "relaxed", "group"}
    assert meta <= candidate.builder_meta.keys()


def test_reference_phase_is_not_rejected_for_its_volume(lab):
    magnesium = cubic(6.2, ("Mg", 0))  # 60 A^3/atom
    lab.propose("generated")
    lab.gate("phase", structure=magnesium, energy_per_atom=-1.5, proposer="reference_phase")
    lab.gate("generated", structure=magnesium, energy_per_atom=-1.5)
    lab.build()
    generated, phase = lab["generated"], lab["phase"]
    assert generated.stage == Stage.REJECTED
    assert "bad_volume" in generated.reason
    assert phase.energy_above_hull == pytest.approx(0.08)
