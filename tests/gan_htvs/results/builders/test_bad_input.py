"""Unusable job outputs give a stage and a reason; other candidates are built normally."""

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


def check_rejected(lab, reason, stage=Stage.FAILED):
    lab.gate("good", 0.01, structure=zincblende())
    lab.build()
    assert (lab["bad"].stage, lab["good"].stage) == (stage, "pourbaix_metastable")
    assert reason in lab["bad"].reason
    assert lab["bad"].energy_above_hull is None


def test_missing_energy(lab):
    lab.gate("bad")
    gate = lab.outputs.query_one({"uuid": "gate bad"})
    del gate["output"]["relaxed"]["energy_per_atom"]
    lab.outputs.update([gate])
    check_rejected(lab, "cannot be read")


@pytest.mark.parametrize("field", ["energy_per_atom", "correction_per_atom", "volume_change"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_number_that_is_not_finite(lab, field, value):
    lab.gate("bad")
    lab.change("gate bad", "relaxed", field, to=value)
    check_rejected(lab, f"{field}: ")


def test_unconverged_relaxation(lab):
    lab.gate("bad", converged=False, n_steps=500)
    check_rejected(lab, "not converged after 500 steps")


def test_unknown_level_of_theory(lab):
    lab.gate("bad", level_of_theory="EMT")
    check_rejected(lab, "EMT")


@pytest.mark.parametrize("change", [1.0, 1.2])
def test_volume_that_doubled(lab, change):
    lab.gate("bad", volume_change=change)
    check_rejected(lab, "-fold in the relaxation", Stage.REJECTED)


def test_element_without_references(lab):
    lab.gate("bad", structure=rocksalt("Mn", 4.4))
    check_rejected(lab, "no reference energy of Mn")


def test_missing_reference_set(lab):
    lab.gate("bad")
    lab.change("gate bad", "references", to="elsewhere")
    check_rejected(lab, "elsewhere")


def test_gate_output_with_unknown_fields(lab):
    lab.job("gate bad", Step.GATE, {"something": "else"}, candidate_id="bad")
    check_rejected(lab, "cannot be read")


def test_prescreen_of_another_version(lab):
    lab.gate("bad")
    kind = {"@module": "gan_htvs.core.candidate", "@class": "PrescreenVerdict"}
    prescreen = kind | {"rejected_at": "another version"}
    lab.change("gate bad", "prescreen", to=prescreen)
    check_rejected(lab, "rejected_at: ")


@pytest.mark.parametrize("output", [None, "a string", [{"x": {}}], {"relaxed": 3}])
def test_gate_output_of_any_type(lab, output):
    lab.gate("bad")
    gate = lab.outputs.query_one({"uuid": "gate bad"})
    lab.outputs.update([gate | {"output": output}])
    lab.gate("good", 0.01, structure=zincblende())
    lab.build()
    assert (lab["bad"].stage, lab["good"].stage) == (Stage.FAILED, "pourbaix_metastable")
    assert "gate" in lab["bad"].reason


def test_gate_without_candidate_id(lab):
    lab.job("gate", Step.GATE, {"relaxed": None})
    lab.gate("good", 0.01, structure=zincblende())
    lab.build()
    assert lab["good"].stage == "pourbaix_metastable"


def test_unreadable_band_gap_and_proposal(lab):
    lab.job("gap", Step.BAND_GAP, {"something": "else"})
    lab.job("proposals", Step.PROPOSE, {"proposals": [{"candidate_id": "x"}]})
    lab.gate("bad", 0.01, gap_job="gap")
    lab.gate("good", 0.01, structure=zincblende())
    lab.build()
    assert "band gap job" in lab["bad"].band_gap_reason
    assert lab["good"].stage == "pourbaix_metastable"


def test_unreadable_or_deleted_campaign(lab):
    lab.gate("good", 0.01, structure=zincblende())
    lab.build()
    lab.campaigns.update([{"name": "mg-o", "settings": {"name": "mg-o"}}])
    assert lab.build() == set()
    lab.campaigns.remove_docs({})
    assert lab.build() == set()


def test_unreadable_reference_set(lab):
    document = lab.outputs.query_one({"uuid": "references"})
    lab.outputs.update([document | {"output": None}])
    lab.gate("bad")
    lab.build()
    assert lab["bad"].stage == Stage.FAILED
    assert lab.references.content_hash in lab["bad"].reason


def test_element_without_aqueous_ions_has_an_energy_above_hull(lab):
    with_protactinium = references(Pa=-2.8, Pa2O=-3.9)
    lab.job("with protactinium", Step.REFERENCES, with_protactinium)
    protactinium = rocksalt("Pa", 4.8)
    lab.gate("bad", structure=protactinium, energy_per_atom=-4.12, references=with_protactinium)
    lab.build()
    assert lab["bad"].energy_above_hull == pytest.approx(0.042, abs=1e-3)
    assert "aqueous ions of Pa" in lab["bad"].reason
