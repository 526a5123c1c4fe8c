from __future__ import annotations

from dataclasses import dataclass

import pytest
from jobflow import Flow, Maker, job, run_locally
from pymatgen.core import Lattice, Structure

from flows.band_gap import BandGapMaker
from flows.candidate import CandidateMaker, StabilityMaker
from flows.energy import PotentialEnergyMaker
from gan_htvs.core.band_gap import BandGapResult
from gan_htvs.core.errors import UserError
from gan_htvs.core.stages import Stage
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.prescreen.documents import Selection, Survivor
from tests.helpers import cesium_chloride, memory_store, proposal, references, relaxed, rocksalt


@dataclass
class TabulatedGapMaker(BandGapMaker):
    """Knows one gap, and counts nothing: a Maker of another package."""

    name: str = "band gap"
    gap: float = 2.0

    def make(self, relaxed, previous=None):
        return self.look_up(relaxed)

    @job
    def look_up(self, relaxed) -> BandGapResult:
        return BandGapResult(band_gap=self.gap, method="table", is_metal=False)


NO_GAP = StabilityMaker(band_gap_maker=None)
WITH_GAP = StabilityMaker(band_gap_maker=TabulatedGapMaker())


def verdict_of(flow: Flow):
    store = memory_store()
    run_locally(flow, store=store, log=False)
    return flow.output.resolve(store)


def test_a_structure_is_relaxed_and_placed_on_the_hull():
    flow = CandidateMaker(stability_maker=NO_GAP).make(rocksalt(), references())
    verdict = verdict_of(flow)
    assert verdict.relaxed.converged
    assert verdict.assessment.energy_above_hull == pytest.approx(0, abs=0.02)
    assert verdict.assessment.pourbaix.minimum > 0
    assert verdict.origin.proposer == "user"
    assert verdict.generated_structure == rocksalt()
    assert verdict.references == references().content_hash


def test_what_is_stable_enough_gets_a_band_gap():
    verdict = verdict_of(CandidateMaker(stability_maker=WITH_GAP).make(rocksalt(), references()))
    assert verdict.band_gap.band_gap == 2.0
    assert verdict.stage is Stage.PHOTOANODE


def test_what_is_not_gets_none():
    verdict = verdict_of(
        CandidateMaker(stability_maker=WITH_GAP).make(cesium_chloride(), references())
    )
    assert verdict.band_gap is None
    assert verdict.stage is Stage.REJECTED
    assert verdict.band_gap_job, "thresholds may change later"


def test_a_survivor_of_the_same_level_of_theory_is_not_relaxed_again():
    survivor = Survivor(proposal=proposal("good", rocksalt()), relaxed=relaxed())
    flow = CandidateMaker(stability_maker=NO_GAP).make(survivor, references())
    assert len(flow.jobs) == 1
    assert verdict_of(flow).relaxed == relaxed()
    other = Survivor(proposal=proposal("good", rocksalt()), relaxed=relaxed(level="SevenNet"))
    assert len(CandidateMaker().make(other, references()).jobs) == 2


def test_all_survivors_are_evaluated_by_one_job_that_is_replaced():
    survivors = [
        Survivor(proposal=proposal(name, rocksalt()), relaxed=relaxed()) for name in ("a", "b")
    ]
    evaluating = CandidateMaker(stability_maker=WITH_GAP).make_all(
        Selection(survivors=survivors), references()
    )
    store = memory_store()
    run_locally(evaluating, store=store, log=False)
    verdicts = evaluating.output.resolve(store)
    assert [each.candidate_id for each in verdicts] == ["a", "b"]
    assert [each.band_gap.band_gap for each in verdicts] == [2.0, 2.0]
    nothing = CandidateMaker().make_all(Selection(survivors=[]), references())
    run_locally(nothing, store=store, log=False)
    assert nothing.output.resolve(store) == []


def test_a_failed_energy_is_a_failed_candidate_with_the_reason():
    impatient = PotentialEnergyMaker(potential=PotentialSettings(max_steps=1, fmax=1e-6))
    flow = CandidateMaker(energy_maker=impatient, stability_maker=NO_GAP).make(
        rocksalt(length=4.6), references()
    )
    verdict = verdict_of(flow)
    assert verdict.stage is Stage.FAILED
    assert verdict.reason == "relax MgO: relaxation not converged after 1 steps"
    assert verdict.failure.job == flow.jobs[0].uuid


def test_what_can_be_refused_when_the_flow_is_made_is_refused_then():
    maker = CandidateMaker(stability_maker=NO_GAP)
    with pytest.raises(UserError, match="cannot be compared"):
        maker.make(rocksalt(), references("PBE(+U)+MP2020"))
    with pytest.raises(UserError, match="no reference energy of Mn"):
        maker.make(rocksalt("Mn"), references())
    half = Structure(Lattice.cubic(4), [{"Mg": 0.5, "O": 0.5}], [[0, 0, 0]])
    with pytest.raises(UserError, match="partly occupied"):
        maker.make(half, references())


def test_what_shows_later_is_a_failed_candidate():
    @job
    def references_of(level, energies):
        return references(level, energies)

    for level, energies, reason in (
        ("PBE(+U)+MP2020", {"Mg": -1.6, "O2": -4.9}, "cannot be compared"),
        ("CHGNet-0.3.0", {"Mn": -9.0, "O2": -4.9}, "no reference energy of Mg"),
    ):
        collecting = references_of(level, energies)
        candidate = CandidateMaker(stability_maker=NO_GAP).make(rocksalt(), collecting.output)
        store = memory_store()
        run_locally(Flow([collecting, candidate]), store=store, log=False)
        verdict = candidate.output.resolve(store)
        assert verdict.stage is Stage.FAILED
        assert reason in verdict.reason


def test_any_maker_with_the_same_output_can_take_the_place_of_an_engine():
    @dataclass
    class FixedEnergyMaker(Maker):
        name: str = "fixed"
        level_of_theory: str = "CHGNet-0.3.0"

        @job
        def make(self, structure):
            return relaxed(structure)

    flow = CandidateMaker(energy_maker=FixedEnergyMaker(), stability_maker=NO_GAP).make(
        rocksalt(), references()
    )
    assert verdict_of(flow).relaxed.energy_per_atom == -6.32


def test_update_maker_kwargs_reaches_nested_makers_and_jobs_that_come_later():
    flow = CandidateMaker(stability_maker=WITH_GAP).make(rocksalt(), references())
    flow.update_maker_kwargs({"gap": 2.5}, class_filter=TabulatedGapMaker)
    assert verdict_of(flow).band_gap.band_gap == 2.5
