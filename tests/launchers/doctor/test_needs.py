from __future__ import annotations

from pathlib import Path

import pytest

from gan_htvs.campaign import Campaign
from gan_htvs.engines import EngineSettings
from gan_htvs.prescreen.settings import PrescreenSettings
from launchers.doctor.check import Need
from launchers.doctor.needs import Needs, needs_of_campaign, needs_of_engines

ELEMENTS = ("Mg", "Mn", "O")


def engines_of(energy: str, band_gap: str, **vasp: object) -> EngineSettings:
    return EngineSettings(energy={"name": energy}, band_gap={"name": band_gap}, vasp=vasp)


def required(needs: Needs) -> set[str]:
    parts = {
        "gpaw": needs.gpaw,
        "vasp": needs.vasp,
        "custodian": needs.custodian,
        "enumlib": needs.enumlib,
        "materials_project": needs.materials_project,
        **needs.potentials,
    }
    return {name for name, need in parts.items() if need is Need.REQUIRED}


@pytest.mark.parametrize(
    ("energy", "band_gap", "pre_relaxation", "expected"),
    [
        ("chgnet", "gpaw", None, {"chgnet", "gpaw"}),
        ("sevennet-0", "none", None, {"sevennet-0"}),
        ("chgnet", "vasp", None, {"chgnet", "vasp", "custodian"}),
        ("vasp", "vasp", None, {"vasp", "custodian"}),
        ("vasp", "none", "sevennet-l3i5", {"vasp", "custodian", "sevennet-l3i5"}),
        ("vasp", "none", "MatterSim", {"vasp", "custodian", "MatterSim"}),
        ("chgnet", "vasp", "MatterSim", {"chgnet", "vasp", "custodian"}),
        ("MACE-MP-0", "none", None, {"MACE-MP-0"}),
    ],
)
def test_a_campaign_needs_its_engines_and_nothing_else(energy, band_gap, pre_relaxation, expected):
    engines = engines_of(energy, band_gap, pre_relaxation=pre_relaxation)
    needs = needs_of_engines(engines, elements=ELEMENTS)
    assert required(needs) == expected


@pytest.mark.parametrize(
    ("energy", "prescreen", "expected"),
    [
        ("chgnet", {}, {"chgnet", "sevennet-0"}),
        ("chgnet", {"confirm": "none"}, {"chgnet"}),
        ("vasp", {"potential": "sevennet-l3i5"}, {"vasp", "custodian", "sevennet-l3i5", "chgnet"}),
        ("MACE-MP-0", {"confirm": "MatterSim"}, {"MACE-MP-0", "MatterSim"}),
    ],
)
def test_a_prescreen_needs_both_of_its_potentials(energy, prescreen, expected):
    needs = needs_of_engines(
        engines_of(energy, "none"), PrescreenSettings(**prescreen), elements=ELEMENTS
    )
    assert required(needs) == expected


def test_arguments_are_those_of_each_potential():
    engines = EngineSettings(
        energy={"name": "MACE-MP-0", "arguments": {"model": "small"}}, band_gap={"name": "none"}
    )
    prescreen = PrescreenSettings(confirm="MatterSim", confirm_arguments={"model": "/a/file"})
    needs = needs_of_engines(engines, prescreen, elements=ELEMENTS)
    assert needs.arguments["MACE-MP-0"] == {"model": "small"}
    assert needs.arguments["MatterSim"] == {"model": "/a/file"}


def test_potcars_are_wanted_of_the_elements_in_the_family_asked_for():
    engines = engines_of("chgnet", "vasp", potcar_functional="PBE_54")
    needs = needs_of_engines(engines, elements=ELEMENTS)
    assert (needs.elements, needs.engines) == (ELEMENTS, engines)


def test_enumlib_is_needed_where_vasp_starts_from_its_orders():
    for energy, expected in (("vasp", Need.REQUIRED), ("chgnet", None)):
        engines = engines_of(energy, "none", orderings="enumlib")
        needs = needs_of_engines(engines, elements=ELEMENTS)
        assert needs.enumlib is expected
    assert Needs().enumlib is Need.CONVENIENT


def test_without_a_campaign_nothing_is_required_and_everything_looked_at():
    assert required(Needs()) == set()
    assert None not in {Needs().gpaw, Needs().vasp, *Needs().potentials.values()}


def test_needs_are_read_from_the_campaign():
    campaign = Campaign(
        name="search",
        chemical_system={"caps": {"Mg": 2, "Mn": 2, "O": 4}},
        oxidation_states={"Mg": (2, 2), "Mn": (2, 4), "O": (-2, -2)},
        dataset={"source": "materials_project"},
        engines={"energy": {"name": "sevennet-0"}, "band_gap": {"name": "none"}},
        prescreen=None,
    )
    needs = needs_of_campaign(campaign, Path())
    assert required(needs) == {"sevennet-0", "materials_project"}
    assert needs.elements == ELEMENTS
