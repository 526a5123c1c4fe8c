"""What cannot be used is marked with a stage and a reason, and its neighbor goes on."""

from __future__ import annotations

import math

import pytest

from gan_htvs.core.stages import Stage, Step

from .conftest import Laboratory, references, rocksalt, zincblende


@pytest.fixture
def lab():
    lab = Laboratory()
    lab.propose("bad", "good")
    return lab


def check(lab, reason, stage=Stage.FAILED):
    lab.gate("good", 0.01, structure=zincblende())
    lab.build()
    assert (lab["bad"].stage, lab["good"].stage) == (stage, Stage.POURBAIX_STABLE)
    assert reason in lab["bad"].reason
    assert lab["bad"].energy_above_hull is None


def test_without_an_energy(lab):
    lab.gate("bad")
    gate = lab.outputs.query_one({"uuid": "gate bad"})
    del gate["output"]["relaxed"]["energy_per_atom"]
    lab.outputs.update([gate])
    check(lab, "cannot be read")


@pytest.mark.parametrize("field", ["energy_per_atom", "correction_per_atom", "volume_change"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_not_a_finite_number(lab, field, value):
    lab.gate("bad")
    lab.change("gate bad", "relaxed", field, to=value)
    check(lab, f"{field}: input should be a finite number")


def test_unconverged(lab):
    lab.gate("bad", converged=False, n_steps=500)
    check(lab, "not converged after 500 steps")


def test_an_unknown_calculator(lab):
    lab.gate("bad", level_of_theory="EMT")
    check(lab, "an energy of EMT cannot be compared with references of CHGNet-0.3.0")


@pytest.mark.parametrize("change", [1.0, 1.2])
def test_a_volume_that_doubled(lab, change):
    lab.gate("bad", volume_change=change)
    check(lab, "-fold in the relaxation", Stage.REJECTED)


def test_an_element_without_references(lab):
    lab.gate("bad", structure=rocksalt("Mn", 4.4))
    check(lab, "no reference energy of Mn")


def test_references_that_are_not_there(lab):
    lab.gate("bad")
    lab.change("gate bad", "references", to="elsewhere")
    check(lab, "reference set elsewhere is not stored")


def test_a_gate_that_left_nothing_of_use(lab):
    lab.job("gate bad", Step.GATE, {"something": "else"}, candidate_id="bad")
    check(lab, "cannot be read")


def test_a_prescreen_of_another_version(lab):
    lab.gate("bad")
    kind = {"@module": "gan_htvs.core.candidate", "@class": "PrescreenVerdict"}
    prescreen = kind | {"candidate_id": "bad", "rejected_at": "another version"}
    lab.change("gate bad", "prescreen", to=prescreen)
    check(lab, "rejected_at: ")


@pytest.mark.parametrize("output", [None, "a string", [{"x": {}}], {"relaxed": 3}])
def test_an_output_of_any_kind(lab, output):
    lab.gate("bad")
    gate = lab.outputs.query_one({"uuid": "gate bad"})
    lab.outputs.update([gate | {"output": output}])
    lab.gate("good", 0.01, structure=zincblende())
    lab.build()
    assert (lab["bad"].stage, lab["good"].stage) == (Stage.FAILED, Stage.POURBAIX_STABLE)
    assert "gate left" in lab["bad"].reason


def test_a_gate_of_nobody(lab):
    lab.job("nobody", Step.GATE, {"relaxed": None})
    lab.gate("good", 0.01, structure=zincblende())
    lab.build()
    assert lab["good"].stage is Stage.POURBAIX_STABLE


def test_a_band_gap_and_a_proposal_that_cannot_be_read(lab):
    lab.job("gap", Step.BAND_GAP, {"something": "else"})
    lab.job("proposals", Step.PROPOSE, {"proposals": [{"candidate_id": "x"}]})
    lab.gate("bad", 0.01, gap_job="gap")
    lab.gate("good", 0.01, structure=zincblende())
    lab.build()
    assert "band gap job left what cannot be read" in lab["bad"].band_gap_reason
    assert lab["good"].stage is Stage.POURBAIX_STABLE


def test_a_campaign_that_cannot_be_read_or_is_gone(lab):
    lab.gate("good", 0.01, structure=zincblende())
    lab.build()
    lab.campaigns.update([{"name": "mg-o", "settings": {"name": "mg-o"}}])
    assert lab.build() == set()
    lab.campaigns.remove_docs({})
    assert lab.build() == set()


def test_references_that_are_no_set(lab):
    document = lab.outputs.query_one({"uuid": "references"})
    lab.outputs.update([document | {"output": None}])
    lab.gate("bad")
    lab.build()
    assert lab["bad"].stage is Stage.FAILED
    assert f"reference set {lab.references.content_hash} is not stored" in lab["bad"].reason


def test_an_element_without_ions_keeps_its_place_on_the_hull(lab):
    with_silver = references(Ag=-2.8, Ag2O=-3.9)
    lab.job("with silver", Step.REFERENCES, with_silver)
    silver = rocksalt("Ag", 4.8)
    lab.gate("bad", structure=silver, energy_per_atom=-4.12, references=with_silver)
    lab.build()
    assert lab["bad"].energy_above_hull == pytest.approx(0.042, abs=1e-3)
    assert "no aqueous ions of Ag" in lab["bad"].reason
