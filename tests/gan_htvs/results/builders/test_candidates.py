from __future__ import annotations

import pytest

from gan_htvs.core.band_gap import BandGapResult, MagneticOrderingResult
from gan_htvs.core.candidate import PrescreenVerdict
from gan_htvs.core.stages import ScreeningStep, Stage, Step
from gan_htvs.results.store import CandidateStore
from tests.helpers import LOOSE_STAGES

from .conftest import SETTINGS, rocksalt


def test_proposal_is_a_generated_candidate(lab):
    lab.propose("a", "b")
    assert lab.build() == {"a", "b"}
    candidate = lab["a"]
    assert candidate.stage == Stage.GENERATED
    assert (candidate.formula_pretty, candidate.symmetry.number) == ("MgO", 225)
    for symmetry, symprec in (
        (candidate.symmetry, 0.1),
        (candidate.tight_symmetry, 0.01),
        (candidate.generated_symmetry, 0.1),
    ):
        assert (symmetry.symbol, symmetry.symprec) == ("Fm-3m", symprec)
    assert candidate.generated_structure == rocksalt()
    assert candidate.energy_above_hull is None


def test_new_gate_changes_only_its_candidate(lab):
    lab.propose("a", "b")
    lab.build()
    lab.gate("b", excess=0.1)
    assert lab.build() == {"b"}
    assert lab["b"].energy_above_hull == pytest.approx(0.1)
    assert lab["b"].stage == "metastable"
    assert lab["a"].stage == Stage.GENERATED


def test_later_band_gap_completes_the_candidate(lab):
    lab.propose("a")
    lab.gate("a", gap_job="gap")
    lab.build()
    assert lab["a"].reason == "band gap not computed"
    lab.job("gap", Step.BAND_GAP, BandGapResult(band_gap=2.5, method="HSE06@PBE (test)"))
    assert lab.build() == {"a"}
    assert lab["a"].stage == "photoanode"
    assert (lab["a"].band_gap, lab["a"].band_gap_method) == (2.5, "HSE06@PBE (test)")


def test_missing_gap_has_a_reason(lab):
    lab.propose("a")
    lab.gate("a", gap_job="gap")
    lab.job("gap", Step.BAND_GAP, BandGapResult(reason="GPAW is not installed"))
    lab.build()
    assert lab["a"].band_gap is None
    assert lab["a"].band_gap_method is None
    assert lab["a"].reason == "GPAW is not installed"


def orders(*missing):
    """Return results of a ferromagnetic ordering, and of other orderings that failed."""
    return (
        MagneticOrderingResult(start="FM", order="FM", energy_per_atom=-7.0),
        *(MagneticOrderingResult(start=m, reason="failed") for m in missing),
    )


def test_gap_is_incomplete_until_all_magnetic_orders_are_computed(lab):
    lab.propose("a")
    lab.gate("a", gap_job="gap")
    gap = BandGapResult(band_gap=2.5, method="HSE06@PBE (test)", magnetic_orders=orders("AFM"))
    lab.job("gap", Step.BAND_GAP, gap)
    lab.build()
    candidate = lab["a"]
    assert candidate.stage == "pourbaix_metastable"
    assert (candidate.band_gap, candidate.incomplete_band_gap) == (None, 2.5)
    assert candidate.band_gap_reason == "missing magnetic ordering AFM: failed"
    assert candidate.reason.endswith("incomplete: missing magnetic ordering AFM: failed")
    assert candidate.band_gap_result.is_complete is False
    store = CandidateStore(lab.candidates)
    assert store.count(band_gap=(None, None)) == 1  # no bounds: no filter
    assert store.count(band_gap=(0, None)) == store.count(band_gap=(None, 9)) == 0
    lab.configure(SETTINGS | {"engines": {"band_gap": {"accept_incomplete": True}}})
    assert lab.build() == {"a"}
    assert lab["a"].stage == "photoanode"
    assert (lab["a"].band_gap, lab["a"].incomplete_band_gap) == (2.5, 2.5)
    assert store.count(band_gap=(1.6, 3.0)) == 1
    lab.configure(SETTINGS)
    assert lab.build() == {"a"}
    assert lab["a"].band_gap is None
    lab.job("gap", Step.BAND_GAP, BandGapResult(band_gap=2.6, magnetic_orders=orders()))
    assert lab.build() == {"a"}
    assert lab["a"].stage == "photoanode"
    assert (lab["a"].band_gap, lab["a"].incomplete_band_gap) == (2.6, None)
    assert store.count(band_gap=(0, None)) == 1


def test_energy_without_all_magnetic_orders_is_incomplete(lab):
    lab.propose("a", "b")
    lab.gate("a", magnetic_orders=orders("AFM", "AFM-2"))
    lab.gate("b", magnetic_orders=orders())
    lab.build()
    reason = "missing magnetic ordering AFM: failed; AFM-2: failed"
    assert (lab["a"].energy_incomplete, lab["b"].energy_incomplete) == (reason, None)
    assert lab["a"].energy_above_hull == pytest.approx(0)


def test_new_stages_change_the_stage_but_not_the_gate(lab):
    lab.propose("a")
    lab.gate("a", excess=0.1)
    lab.build()
    lab.configure(SETTINGS | {"stages": LOOSE_STAGES})
    assert lab.build() == {"a"}
    assert lab["a"].stage == "pourbaix_metastable"
    assert lab["a"].gate["decomposition_energy"] == pytest.approx(0.1)


def test_prescreen_results_are_stored_for_survivors_and_rejected(lab):
    lab.propose("a", "b", "c")
    stopped = {"rejected_at": ScreeningStep.STOPPING, "reason": "too high"}
    lab.prescreen("a", job="first", would_stop_at=10, volume_change=-0.1, **stopped)
    lab.prescreen("b", job="second", decomposition_energy=0.05)
    lab.gate("b", prescreen=PrescreenVerdict(decomposition_energy=0.05))
    lab.gate("c")
    lab.build()
    rejected, survivor, without = lab["a"], lab["b"], lab["c"]
    assert (rejected.stage, rejected.structure) == (Stage.REJECTED, None)
    assert rejected.reason == "early stopping: too high"
    assert rejected.prescreen.rejected_at is ScreeningStep.STOPPING
    assert (rejected.prescreen.would_stop_at, rejected.prescreen.volume_change) == (10, -0.1)
    assert survivor.prescreen.rejected_at is None
    assert survivor.prescreen.decomposition_energy == 0.05
    assert survivor.energy_above_hull == pytest.approx(0)
    assert without.prescreen is None


def test_survivor_has_stage_generated_until_evaluated(lab):
    lab.propose("a")
    lab.prescreen("a", decomposition_energy=0.05)
    lab.build()
    assert (lab["a"].stage, lab["a"].prescreen.decomposition_energy) == (Stage.GENERATED, 0.05)
    lab.gate("a", 0.02)
    assert lab.build() == {"a"}
    assert lab["a"].stage == "pourbaix_metastable"


def test_structure_rejected_by_the_selection_is_rejected(lab):
    lab.propose("a", "b")
    lab.prescreen("a", "b")
    lab.build()
    lab.select("a", rejected=[("b", "a")])
    lab.build()
    assert lab["b"].stage == Stage.REJECTED
    assert lab["b"].reason == "duplicate after relaxation: relaxed to the same crystal as a"
    assert lab["b"].prescreen.duplicate_of == "a"
    assert lab["a"].prescreen.rejected_at is None


def test_later_prescreen_or_selection_replaces_an_earlier_one(lab):
    lab.propose("a", "b", "c")
    lab.prescreen("a", job="first", rejected_at=ScreeningStep.WINDOW, reason="too high")
    lab.prescreen("b", "c", job="second")
    lab.select(rejected=[("b", "another"), ("c", "another")], job="first selection")
    lab.build()
    assert {lab[i].stage for i in "abc"} == {Stage.REJECTED}
    lab.prescreen("a", job="wider window", decomposition_energy=0.3)
    lab.select("a", "c", rejected=[("b", "c")], job="second selection")
    assert lab.build() == {"a", "b", "c"}
    assert lab["a"].stage is lab["c"].stage == Stage.GENERATED
    assert (lab["b"].stage, lab["b"].prescreen.duplicate_of) == (Stage.REJECTED, "c")


@pytest.mark.parametrize("proposer", ["reference_phase", "user"])
def test_candidates_without_sampling_job_come_from_their_verdict(lab, proposer):
    lab.gate("a", 0.01, structure=rocksalt(a=4.25), proposer=proposer)
    assert lab.build() == {"a"}
    assert lab["a"].origin.proposer == proposer
    assert lab["a"].generated_structure == rocksalt(a=4.25)
    assert lab["a"].energy_above_hull == pytest.approx(0.01)


def test_verdict_with_band_gap_replaces_the_one_without(lab):
    lab.propose("a")
    lab.gate("a", gap_job="gap")
    lab.build()
    assert lab["a"].stage == "pourbaix_metastable"
    gap = BandGapResult(band_gap=2.5, method="HSE06@PBE (test)")
    lab.job("gap", Step.BAND_GAP, gap)
    lab.gate("a", gap_job="gap", band_gap=gap, index=2)
    assert lab.build() == {"a"}
    assert (lab["a"].stage, lab["a"].band_gap) == ("photoanode", 2.5)
    assert lab.build() == set()


def test_oxidation_states_are_stored(lab):
    lab.propose("a", "b")
    lab.gate("a", structure=rocksalt("Mn"), magmoms=[4.6, 0.1])
    lab.gate("b", structure=rocksalt("Mn"))
    lab.build()
    states = lab["a"].oxidation_states
    assert states.states == (2, -2)
    assert states.is_neutral
    assert lab["b"].oxidation_states is None
    rows = {row["candidate_id"]: row for row in CandidateStore(lab.candidates).rows()}
    assert rows["a"]["oxidation_states"] == {"average": {"Mn": 2, "O": -2}}


def test_rows_are_sorted_by_stability_and_filtered(lab):
    lab.propose("a", "b", "c", "d")
    lab.gate("a", excess=0.3)
    lab.gate("b", excess=0.05)
    lab.gate("d", excess=-0.3)  # implausibly low
    lab.build()
    store = CandidateStore(lab.candidates)
    assert [row["candidate_id"] for row in store.rows()] == ["b", "a", "c", "d"]
    assert [row["candidate_id"] for row in store.rows(stage=Stage.REJECTED)] == ["d"]
    assert store.rows(campaign="another") == []
    assert [c.candidate_id for c in store.query(stage=Stage.GENERATED)] == ["c"]
    assert store.get("missing") is None
