from __future__ import annotations

import pytest
from pydantic import ValidationError
from pymatgen.core import Composition, Element

from gan_htvs.structures.geometry_limits import (
    GeometryLimits,
    elemental_volume,
    overlap_distances,
    shortest_distance,
)

LIMITS = GeometryLimits()


def test_volumes_of_elements() -> None:
    assert elemental_volume("Mg") == pytest.approx(23.2, abs=0.1)
    assert elemental_volume("Cs") == pytest.approx(117.8, abs=0.1)
    assert elemental_volume("Fr") > elemental_volume("Cs")  # not tabulated


@pytest.mark.parametrize("element", Element)
def test_every_element_has_limits(element: Element) -> None:
    symbol = element.symbol
    low, high = LIMITS.volume_range(Composition({symbol: 1, "O": 1}))
    assert 3 < low < high < 180
    assert LIMITS.target_volume((symbol,)) >= 1
    assert 0.4 < shortest_distance(symbol, symbol) < 4


def test_volume_range_of_manganese_spinel() -> None:
    low, high = LIMITS.volume_range(Composition("MgMn2O4"))
    assert low == pytest.approx(4.7, abs=0.1)
    assert high == pytest.approx(40.7, abs=0.1)


@pytest.mark.parametrize(
    ("elements", "volume"),
    [
        (("Mg", "Mn", "O"), 13),
        (("O", "Mg"), 13),
        (("Mn", "S"), 23),
        (("Cs", "Pb", "I"), 63),
        (("Ca", "C", "O"), 14),
        (("Ca", "Mn", "O"), 16),
        (("Cu", "Zn"), 14),
    ],
)
def test_target_volumes(elements: tuple[str, ...], volume: float) -> None:
    assert LIMITS.target_volume(elements) == volume


KNOWN_VOLUMES = {
    "MgO": 9.34,
    "MgMn2O4": 11.1,
    "TiO2": 10.4,
    "V2O5": 12.8,
    "Al2O3": 8.5,
    "SiO2": 12.6,
    "B2O3": 9.0,
    "AlPO4": 12.9,
    "CaCO3": 12.3,
    "CaMnO3": 10.4,
    "BaTiO3": 12.9,
    "Li2O": 8.2,
    "K2O": 22.3,
    "Cs2O": 32.9,
    "La2O3": 16.4,
    "WO3": 13.2,
    "MnS": 17.8,
    "SiS2": 25.0,
    "K2S": 33.9,
    "Cu2ZnSnS4": 20.0,
    "CdSe": 28.1,
    "MnTe": 25.0,
    "NaCl": 22.4,
    "CsPbI3": 49.8,
    "KMnF3": 14.7,
    "CaF2": 13.6,
    "GaN": 11.4,
    "Si3N4": 10.4,
}
"""Volumes of crystals at ambient conditions, A^3/atom."""


@pytest.mark.parametrize(("formula", "volume"), KNOWN_VOLUMES.items())
def test_target_volumes_are_near_those_of_crystals(formula: str, volume: float) -> None:
    target = LIMITS.target_volume(Composition(formula).get_el_amt_dict())
    assert 0.8 < target / volume < 1.75
    assert target < LIMITS.volume_range(Composition(formula))[1] / 1.2


def test_overlap_distances_of_mg_mn_o() -> None:
    distances = overlap_distances(("Mg", "Mn", "O"))
    assert distances["Mg", "O"] == pytest.approx(1.908, abs=1e-3)
    assert distances["O", "Mn"] == pytest.approx(1.924, abs=1e-3)
    assert distances["O", "O"] == pytest.approx(2.444, abs=1e-3)
    for pair in (("Mg", "Mg"), ("Mg", "Mn"), ("Mn", "Mn")):
        assert distances[pair] == pytest.approx(2.68, abs=0.02)


def test_overlap_distances_of_other_chemistries() -> None:
    assert overlap_distances(("V", "O"))["V", "O"] == pytest.approx(1.83, abs=0.05)
    barium = overlap_distances(("Ba", "Ti", "O"))
    assert barium["Ba", "O"] > barium["Ti", "O"]
    assert 2.2 < overlap_distances(("Cu", "Zn"))["Cu", "Zn"] < 2.8
    # Tellurium is a cation beside oxygen.
    assert overlap_distances(("Mg", "Te", "O"))["Te", "O"] < 2.2


def test_covalent_groups_do_not_overlap() -> None:
    carbonate = overlap_distances(("Ca", "C", "O"))
    assert carbonate["C", "O"] < 1.28
    assert carbonate["O", "O"] < 2.22
    hydroxide = overlap_distances(("Mg", "O", "H"))
    assert hydroxide["O", "H"] < 0.958
    assert hydroxide["H", "H"] < 0.74
    assert hydroxide["O", "O"] == overlap_distances(("Mg", "O"))["O", "O"]


def test_oxidation_states_tell_sulfates_from_oxysulfides() -> None:
    system, states = ("Na", "S", "O"), {"Na": (1.0, 1.0), "O": (-2.0, -2.0)}
    sulfide = LIMITS.for_ions(system, states | {"S": (-2.0, -2.0)})
    assert sulfide is LIMITS
    sulfate = LIMITS.for_ions(system, states | {"S": (6.0, 6.0)})
    distances = sulfate.overlaps_below(system)
    assert distances["S", "O"] < 1.47  # the bond in SO4(2-)
    assert distances["O", "O"] < 2.45
    assert sulfide.overlaps_below(system)["S", "O"] > 2.5
    assert sulfate.target_volume(system) < LIMITS.target_volume(system)
    chosen = GeometryLimits(overlap_distances={"O-S": 1.3}, target_volume_per_atom=11)
    chosen = chosen.for_ions(system, states | {"S": (6.0, 6.0)})
    assert chosen.overlaps_below(system)["S", "O"] == 1.3
    assert chosen.overlaps_below(system)["Na", "O"] == distances["Na", "O"]
    assert chosen.target_volume(system) == 11


def test_heavy_chalcogenides_do_not_overlap() -> None:
    for metal, anion, bond in (("Hg", "Se", 2.63), ("Hg", "Te", 2.80), ("Cd", "Te", 2.81)):
        assert overlap_distances((metal, anion))[metal, anion] < bond + 0.05


def test_settings_replace_the_chemistry() -> None:
    limits = GeometryLimits(
        volume_per_atom=(6, 20),
        min_distances={"O-Mg": 1.7},
        overlap_distances={"Mg-O": 2.0, "K-F": 2.5},
        target_volume_per_atom=11,
    )
    assert limits.volume_range(Composition("MgO")) == (6, 20)
    assert limits.min_distance("Mg", "O") == limits.min_distance("O", "Mg") == 1.7
    assert limits.min_distance("O", "O") == LIMITS.min_distance("O", "O")
    distances = limits.overlaps_below(("Mg", "O"))
    assert distances["Mg", "O"] == distances["O", "Mg"] == 2.0
    assert ("K", "F") not in distances
    assert limits.target_volume(("Mg", "O")) == 11
    assert limits.elements() == {"Mg", "O", "K", "F"}
    # The table of the chemistry is not changed.
    assert overlap_distances(("Mg", "O"))["Mg", "O"] < 2.0


@pytest.mark.parametrize(
    ("limits", "volume"),
    [((5, 40), 13), ((20, 60), 22), ((5, 11), 10), ((25, 30), 750**0.5)],
)
def test_target_volume_is_within_the_range_of_the_settings(
    limits: tuple[float, float], volume: float
) -> None:
    chosen = GeometryLimits(volume_per_atom=limits)
    assert chosen.target_volume(("Mg", "Mn", "O")) == pytest.approx(volume)
    sulfate = ("Na", "S", "O"), {"Na": (1.0, 1.0), "S": (6.0, 6.0), "O": (-2.0, -2.0)}
    assert limits[0] < chosen.for_ions(*sulfate).target_volume(sulfate[0]) < limits[1]


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("volume_per_atom", (20, 6), "is empty"),
        ("volume_per_atom", (0, 6), "greater than 0"),
        ("volume_per_atom", (5000, 6000), "no volume of a crystal"),
        ("volume_per_atom", (0.01, 0.02), "no volume of a crystal"),
        ("target_volume_per_atom", 5000, "1000"),
        ("min_distances", {"Mg-O": 100}, "at most 10 A"),
        ("overlap_distances", {"Mg-O": 10.1}, "at most 10 A"),
        ("min_distances", {"MgO": 1.7}, "not a pair of elements"),
        ("min_distances", {"Mg-Xx": 1.7}, "not a pair of elements"),
        ("overlap_distances", {"Mg-O": 1.7, "O-Mg": 1.8}, "given twice"),
        ("target_volume_per_atom", -1, "greater than 0"),
    ],
)
def test_invalid_settings(field: str, value: object, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        GeometryLimits.model_validate({field: value})
