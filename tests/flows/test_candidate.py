from __future__ import annotations

from dataclasses import dataclass

import pytest
from jobflow import Flow, Maker, job
from pymatgen.core import Lattice, Structure

from flows.band_gap import BandGapMaker
from flows.candidate import CandidateMaker, StabilityMaker
from flows.energy import PotentialEnergyMaker
from flows.references import ReferencesMaker
from gan_htvs.core.band_gap import BandGapResult
from gan_htvs.core.candidate import Screened
from gan_htvs.core.errors import UserError
from gan_htvs.core.stages import Stage
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from tests.helpers import (
    CHGNET,
    PBE_U,
    cesium_chloride,
    output_of,
    references,
    relaxed,
    rocksalt,
    survivor,
)


@dataclass
class TabulatedGapMaker(BandGapMaker):
    """A Maker of another package, which returns one tabulated gap."""

    name: str = "band gap"
    gap: float = 2.0

    def make(self, relaxed, previous=None):
        return self.look_up(relaxed)

    @job
    def look_up(self, relaxed) -> BandGapResult:
        return BandGapResult(band_gap=self.gap, method="table", is_metal=False)


NO_GAP = StabilityMaker(band_gap_maker=None)
WITH_GAP = StabilityMaker(band_gap_maker=TabulatedGapMaker())


def test_structure_is_relaxed_and_placed_on_the_hull():
    flow = CandidateMaker(stability_maker=NO_GAP).make(rocksalt(), references())
    verdict = output_of(flow)
    assert verdict.relaxed.converged
    assert verdict.assessment.energy_above_hull == pytest.approx(0, abs=0.02)
    assert verdict.assessment.pourbaix.minimum > 0
    assert verdict.origin.proposer == "user"
    assert verdict.structure == rocksalt()
    assert verdict.references == references().content_hash


def test_stable_structure_gets_a_band_gap():
    verdict = output_of(CandidateMaker(stability_maker=WITH_GAP).make(rocksalt(), references()))
    assert verdict.band_gap.band_gap == 2.0
    assert verdict.stage == "photoanode"


def test_unstable_structure_gets_no_band_gap():
    verdict = output_of(
        CandidateMaker(stability_maker=WITH_GAP).make(cesium_chloride(), references())
    )
    assert verdict.band_gap is None
    assert verdict.stage == Stage.RELAXED
    assert verdict.band_gap_job, "stages may change later"


def test_survivor_of_same_level_of_theory_is_not_relaxed_again():
    good = survivor("good", rocksalt(), relaxed())
    flow = CandidateMaker(stability_maker=NO_GAP).make(good, references())
    assert len(flow.jobs) == 1
    assert output_of(flow).relaxed == relaxed()
    other = survivor("good", rocksalt(), relaxed(level="SevenNet"))
    assert len(CandidateMaker().make(other, references()).jobs) == 2


def test_evaluate_job_is_replaced_by_flows_of_all_survivors():
    survivors = [survivor(name, rocksalt(), relaxed()) for name in ("a", "b")]
    maker = CandidateMaker(stability_maker=WITH_GAP)
    verdicts = output_of(maker.make_all(Screened(proposals=survivors), references()))
    assert [verdict.candidate_id for verdict in verdicts] == ["a", "b"]
    assert [verdict.band_gap.band_gap for verdict in verdicts] == [2.0, 2.0]
    assert output_of(maker.make_all(Screened(proposals=[]), references())) == []


def test_failed_energy_gives_failed_candidate_with_reason():
    energy_maker = PotentialEnergyMaker(potential=PotentialSettings(max_steps=1, fmax=1e-6))
    flow = CandidateMaker(energy_maker=energy_maker, stability_maker=NO_GAP).make(
        rocksalt(length=4.6), references()
    )
    verdict = output_of(flow)
    assert verdict.stage == Stage.FAILED
    assert verdict.reason.startswith("relax MgO: ")
    assert verdict.failure.job == flow.jobs[0].uuid


def test_invalid_input_is_refused_when_the_flow_is_made():
    maker = CandidateMaker(stability_maker=NO_GAP)
    with pytest.raises(UserError, match="cannot be compared"):
        maker.make(rocksalt(), references(PBE_U))
    with pytest.raises(UserError, match="no reference energy of Mn"):
        maker.make(rocksalt("Mn"), references())
    half = Structure(Lattice.cubic(4), [{"Mg": 0.5, "O": 0.5}], [[0, 0, 0]])
    with pytest.raises(UserError, match="partly occupied"):
        maker.make(half, references())
    for no_reference_set in (None, {}, [], ReferencesMaker().make(["Mg", "O"])):
        with pytest.raises(UserError, match=f"not {type(no_reference_set).__name__}"):
            maker.make(rocksalt(), no_reference_set)


def test_invalid_references_at_run_time_give_failed_candidate():
    @job
    def references_of(level, energies):
        return references(level, energies)

    for level, energies, reason in (
        (PBE_U, {"Mg": -1.6, "O2": -4.9}, "cannot be compared"),
        (CHGNET, {"Mn": -9.0, "O2": -4.9}, "no reference energy of Mg"),
    ):
        references_job = references_of(level, energies)
        candidate = CandidateMaker(stability_maker=NO_GAP).make(rocksalt(), references_job.output)
        verdict = output_of(Flow([references_job, candidate], output=candidate.output))
        assert verdict.stage == Stage.FAILED
        assert reason in verdict.reason


def test_any_maker_with_the_same_output_can_replace_an_engine():
    @dataclass
    class FixedEnergyMaker(Maker):
        name: str = "fixed"
        level_of_theory: str = CHGNET

        @job
        def make(self, structure):
            return relaxed(structure)

    flow = CandidateMaker(energy_maker=FixedEnergyMaker(), stability_maker=NO_GAP).make(
        rocksalt(), references()
    )
    assert output_of(flow).relaxed.energy_per_atom == -6.32


def test_update_maker_kwargs_reaches_nested_makers_and_later_jobs():
    flow = CandidateMaker(stability_maker=WITH_GAP).make(rocksalt(), references())
    flow.update_maker_kwargs({"gap": 2.5}, class_filter=TabulatedGapMaker)
    assert output_of(flow).band_gap.band_gap == 2.5
