from __future__ import annotations

import pytest
from pydantic import ValidationError

from gan_htvs.core.errors import UserError
from gan_htvs.core.funnel_stages import PUBLISHED_STAGES, FunnelSettings, FunnelStage
from gan_htvs.core.properties import PROPERTIES, UserProperty
from gan_htvs.core.stages import Stage

STIFF = UserProperty(path="math.sqrt", unit="GPa")


def stage(property_name, name="here", **window):
    return FunnelStage(name=name, property=property_name, **window)


def decide(stages, document, **more):
    return FunnelSettings(stages=stages, **more).decide(document)


@pytest.mark.parametrize(
    ("window", "values"),
    [
        ({"min": 1.6, "max": 3.0}, (False, True, True, False)),
        ({"max": 1.6}, (True, True, False, False)),
        ({"min": 3}, (False, False, True, True)),
        ({}, (True, True, True, True)),
    ],
)
def test_limits_of_a_window_are_inclusive(window, values):
    tested = stage("band_gap", **window)
    assert tuple(tested.admits(value) for value in (1.5, 1.6, 3.0, 3.1)) == values


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "rejected", "property": "density"},
        {"name": "two words", "property": "density"},
        {"name": "dense", "property": "density", "min": 5, "max": 3},
        {"name": "dense", "property": "density", "above": 3},
    ],
)
def test_invalid_stage(settings):
    with pytest.raises(ValidationError):
        FunnelStage(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"stages": [stage("density"), stage("band_gap")]},
        {"stages": [stage("hardness")]},
        {"stages": [stage("oxidation_state_Xx")]},
        {"properties": {"density": STIFF}},
        {"properties": {"oxidation_state_Mn": STIFF}},
        {"properties": {"bulk-modulus": STIFF}},
    ],
)
def test_inconsistent_stages(settings):
    with pytest.raises(ValidationError):
        FunnelSettings(**settings)


def test_candidate_stops_at_the_first_stage_that_it_misses():
    document = {"energy_above_hull": 0.05, "pourbaix": {"minimum": 0.3}, "band_gap": 3.2}
    decision = FunnelSettings().decide(document)
    assert decision == ("pourbaix_stable", "band gap 3.20 > 3 eV", None)
    assert FunnelSettings().decide(document | {"band_gap": 3.0}).stage == "photoanode"
    unstable = document | {"energy_above_hull": 0.3}
    assert FunnelSettings().decide(unstable).stage == Stage.RELAXED
    assert FunnelSettings(stages=()).decide(unstable) == (Stage.RELAXED, None, None)


def test_missing_property_is_named_with_its_reason():
    document = {"energy_above_hull": 0.05, "pourbaix": {"minimum": 0.3}, "band_gap": None}
    assert FunnelSettings().decide(document).missing == "band_gap"
    decision = FunnelSettings().decide(document, {"band_gap": "killed"})
    assert decision == ("pourbaix_metastable", "killed", "band_gap")


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("density", {"density": 4.0}),
        ("volume_per_atom", {"volume_per_atom": 4.0}),
        ("total_magnetization", {"total_magnetization": 4.0}),
        ("space_group_number", {"symmetry": {"number": 4}}),
        ("formation_energy_per_atom", {"formation_energy_per_atom": 4.0}),
        ("oxidation_state_Mn", {"oxidation_states": {"average": {"Mn": 4.0, "O": -2}}}),
        ("stiffness", {"properties": {"stiffness": {"value": 4.0}}}),
    ],
)
def test_any_property_can_limit_a_stage(name, document):
    own = {"properties": {"stiffness": STIFF}}
    assert decide([stage(name, max=4)], document, **own).stage == "here"
    outside = decide([stage(name, max=3.5)], document, **own)
    assert (outside.stage, outside.missing) == (Stage.RELAXED, None)
    assert "> 3.5" in outside.reason
    assert decide([stage(name)], {}, **own).missing == name


def test_stage_of_novelty_keeps_novel_crystals_by_default():
    novel, known = ({"novelty": {"is_novel": value}} for value in (True, False))
    assert decide([stage("is_novel")], novel).stage == "here"
    assert decide([stage("is_novel")], known).reason == "a known crystal"
    assert decide([stage("is_novel", max=0)], known).stage == "here"
    assert decide([stage("is_novel")], {"novelty": {"is_novel": None}}).missing == "is_novel"


def test_published_stages_use_known_properties():
    assert {stage.property for stage in PUBLISHED_STAGES} <= PROPERTIES.keys()


def test_candidates_for_which_a_property_is_computed():
    funnel = FunnelSettings()
    assert funnel.names_from("band_gap") == [stage.name for stage in PUBLISHED_STAGES[2:]]
    assert funnel.names_from("density") == []
    first = FunnelSettings(stages=[stage("band_gap", "insulator")])
    assert first.names_from("band_gap") == [Stage.RELAXED, "insulator"]


@pytest.mark.parametrize("path", ["no_such_package.value", "math.no_such_function", "math.pi"])
def test_property_that_cannot_be_used_is_a_user_error(path):
    with pytest.raises(UserError, match=path):
        UserProperty(path=path).load()


@pytest.mark.parametrize("path", ["sqrt", "math sqrt", "math.sqrt()", "../math.sqrt", ""])
def test_import_path_needs_a_module(path):
    with pytest.raises(ValidationError):
        UserProperty(path=path)
