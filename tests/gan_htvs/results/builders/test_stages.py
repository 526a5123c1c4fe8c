"""Stages of stored candidates follow the current settings of their campaign."""

from __future__ import annotations

import pytest

from gan_htvs.core.band_gap import BandGapResult
from gan_htvs.core.properties import PropertyResult, UserProperty
from gan_htvs.core.stages import Stage, Step

from .conftest import SETTINGS

STABLE = {"name": "stable", "property": "energy_above_hull", "max": 0.08}
PACKED = {"name": "packed", "property": "packing", "min": 0.1}
PACKING = {"path": "tests.user_properties.atoms_per_volume", "unit": "1/A^3"}


def with_stages(*stages, **more):
    return SETTINGS | {"stages": stages, **more}


def test_new_windows_decide_stored_candidates_again(lab):
    lab.gate("a", excess=0.05, gap_job="gap")
    lab.job("gap", Step.BAND_GAP, BandGapResult(band_gap=2.5, method="HSE06"))
    lab.build()
    assert lab["a"].stage == "photoanode"
    lab.configure(with_stages(STABLE | {"max": 0.01}))
    assert lab.build() == {"a"}
    assert (lab["a"].stage, lab["a"].missing_property) == (Stage.RELAXED, None)
    assert lab["a"].band_gap == 2.5
    lab.configure(with_stages({"name": "insulator", "property": "band_gap", "min": 2}, STABLE))
    lab.build()
    assert lab["a"].stage == "stable"


def test_funnel_without_water_has_no_pourbaix_energy(lab):
    lab.gate("a")
    lab.build()
    assert lab["a"].pourbaix is not None
    lab.configure(with_stages(STABLE, pourbaix=None))
    lab.build()
    assert (lab["a"].stage, lab["a"].reason, lab["a"].pourbaix) == ("stable", None, None)


def test_property_of_the_user_is_joined(lab):
    lab.configure(with_stages(STABLE, PACKED, properties={"packing": PACKING}))
    lab.gate("a")
    lab.build()
    assert (lab["a"].stage, lab["a"].missing_property) == ("stable", "packing")
    uuid = UserProperty(**PACKING).job_uuid("a")
    lab.job(uuid, Step.PROPERTY, PropertyResult(reason="it raised", unit="1/A^3"))
    lab.build()
    assert (lab["a"].stage, lab["a"].reason) == ("stable", "it raised")
    lab.job(uuid, Step.PROPERTY, PropertyResult(value=0.107, unit="1/A^3"))
    assert lab.build() == {"a"}
    assert (lab["a"].stage, lab["a"].missing_property) == ("packed", None)
    assert lab["a"].properties["packing"].value == 0.107


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("density", (3.5, 3.6), (4, 5)),
        ("volume_per_atom", (9, 10), (10, 12)),
        ("total_magnetization", (3, 3), (0, 1)),
        ("space_group_number", (195, 230), (1, 2)),
        ("formation_energy_per_atom", (-4, 0), (0, 1)),
    ],
)
def test_properties_of_the_structure_limit_stages(lab, name, inside, outside):
    lab.gate("a", magmoms=[3.0, 0.0])
    for (low, high), stage in ((inside, "here"), (outside, Stage.RELAXED)):
        lab.configure(with_stages({"name": "here", "property": name, "min": low, "max": high}))
        lab.build()
        assert lab["a"].stage == stage


def test_oxidation_states_limit_stages(lab):
    lab.configure(with_stages({"name": "divalent", "property": "oxidation_state_Mg", "max": 2}))
    lab.gate("a", magmoms=[0.0, 0.0])
    lab.gate("b")  # no moments
    lab.build()
    assert (lab["a"].stage, lab["b"].stage) == ("divalent", Stage.RELAXED)
    assert lab["b"].missing_property == "oxidation_state_Mg"


def test_known_crystals_stop_before_a_stage_of_novelty(lab):
    lab.configure(with_stages(STABLE, {"name": "novel", "property": "is_novel"}))
    lab.gate("phase", proposer="reference_phase")
    lab.gate("a", proposer="user")
    lab.build()
    assert (lab["a"].stage, lab["a"].reason) == ("stable", "a known crystal")
