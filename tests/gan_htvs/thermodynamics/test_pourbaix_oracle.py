"""Batched Pourbaix energies compared with the diagrams of pymatgen, one candidate at a time."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.pourbaix_diagram import PourbaixDiagram, PourbaixEntry
from pymatgen.core import Composition
from pymatgen.core.entries import ComputedEntry

from gan_htvs.core.pourbaix_stability import PourbaixSettings
from gan_htvs.thermodynamics.pourbaix import (
    KJ_PER_MOL_PER_EV,
    PourbaixAnalyzer,
    free_energy_per_atom,
)
from tests.helpers import references

from .conftest import CHGNET_FORMATION_ENERGIES

if TYPE_CHECKING:
    from gan_htvs.thermodynamics.hull import ReferenceSet

# eV/atom, from the measured enthalpies of the NBS tables (1982)
VANADIUM_OXIDES = {"VO": -2.238, "V2O3": -2.526, "VO2": -2.465, "V2O5": -2.295}
# Not measured: solids with two metals, for diagrams of three metals.
MIXED = {"MgV2O6": -2.70, "Mg2V2O7": -2.85, "MnV2O6": -2.35}

# Of the NBS tables (1982); mixed phases and the peroxide are not measured.
ENTHALPIES = {
    "CaO": -635.1,
    "CaO2": -652.7,
    "CaMnO3": -1260.0,
    "CaMn2O4": -1800.0,
    "MnO": -385.2,
    "Mn3O4": -1387.8,
    "Mn2O3": -959.0,
    "MnO2": -520.0,
    "K2O": -361.5,
    "KF": -567.3,
    "MnF2": -803.0,
    "KMnF3": -1400.0,
    "K2MnF4": -1975.0,
    "K2MnO4": -1180.0,
    "NaF": -573.6,
    "ZnO": -348.3,
    "ZnS": -206.0,
    "SnO": -285.8,
    "SnO2": -580.7,
    "SnS": -100.0,
    "SnS2": -153.0,
    "ZnSnO3": -940.0,
    "ZnSO4": -982.8,
    "Na2SO4": -1387.1,
    "TiO": -519.7,
    "Ti2O3": -1520.9,
    "TiO2": -944.7,
    "TiN": -338.1,
    "Ti2N2O": -860.0,
    "N2O5": -43.1,
}
"""Enthalpies of formation, kJ/mol."""


def formation_energies(energies: dict[str, float], *elements: str) -> ReferenceSet:
    """Build a reference set in which the energies of elements are zero."""
    return references("test", dict.fromkeys((*elements, "O2"), 0.0) | energies)


def measured(chemsys: str, *formulas: str) -> ReferenceSet:
    """Build a reference set from all enthalpies of a chemical system, and from more formulas."""
    elements = set(chemsys.split("-"))
    chosen = {
        *formulas,
        *(f for f in ENTHALPIES if set(Composition(f).get_el_amt_dict()) <= elements),
    }
    energies = {
        formula: ENTHALPIES[formula] / KJ_PER_MOL_PER_EV / Composition(formula).num_atoms
        for formula in sorted(chosen)
    }
    elements |= {symbol for formula in chosen for symbol in Composition(formula).get_el_amt_dict()}
    return formation_energies(energies, *sorted(elements - {"O"}))


SYSTEMS = {
    "Ca-Mn-O": measured("Ca-Mn-O"),
    "K-Mn-F": measured("K-Mn-F-O", "NaF"),
    "Zn-Sn-S": measured("Zn-Sn-S-O", "Na2SO4"),
    "Ti-O-N": measured("Ti-O-N"),
    "V-O": formation_energies(VANADIUM_OXIDES, "V"),
    "Mg-Mn-O": formation_energies(CHGNET_FORMATION_ENERGIES, "Mg", "Mn"),
    "Mg-Mn-V-O": formation_energies(
        CHGNET_FORMATION_ENERGIES | VANADIUM_OXIDES | MIXED, "Mg", "Mn", "V"
    ),
}
ENVIRONMENTS = (
    PourbaixSettings(),
    PourbaixSettings(filter_solids=False, ion_concentration=1e-2),
    PourbaixSettings(hydroxides=True, potential_vs_rhe=0.4, ph_points=8),
)


@cache
def analyzer(system: str, environment: int) -> PourbaixAnalyzer:
    return PourbaixAnalyzer(SYSTEMS[system], ENVIRONMENTS[environment])


@cache
def diagram(system: str, environment: int, metals: tuple[tuple[str, int], ...]) -> PourbaixDiagram:
    return analyzer(system, environment).diagram(dict(metals))


def expected_energies(system, environment, composition, formation_energy):
    metals = tuple((el.symbol, int(n)) for el, n in composition.items() if el.symbol != "O")
    free_energy = free_energy_per_atom(composition, formation_energy) * composition.num_atoms
    settings = ENVIRONMENTS[environment]
    ph = np.linspace(settings.ph_min, settings.ph_max, settings.ph_points)
    return diagram(system, environment, metals).get_decomposition_energy(
        PourbaixEntry(ComputedEntry(composition, free_energy)),
        ph,
        settings.potential_vs_rhe - 0.0591 * ph,
    )


def compare(system, environment, counts, energy):
    composition = Composition({symbol: n for symbol, n in counts.items() if n})
    energies = analyzer(system, environment).stability(composition, energy).decomposition_energies
    expected = expected_energies(system, environment, composition, energy)
    assert energies == pytest.approx(expected, abs=1e-8)


@settings(max_examples=500, deadline=None)
@given(
    mg=st.integers(0, 4),
    mn=st.integers(0, 4),
    oxygen=st.integers(1, 12),
    energy=st.floats(-4, 1),
    environment=st.integers(0, 1),
)
def test_two_metals(mg, mn, oxygen, energy, environment):
    if mg + mn:
        compare("Mg-Mn-O", environment, {"Mg": mg, "Mn": mn, "O": oxygen}, energy)


@settings(max_examples=500, deadline=None)
@given(
    v=st.integers(1, 8),
    oxygen=st.integers(1, 12),
    energy=st.floats(-4, 1),
    environment=st.integers(0, 2),
)
def test_one_metal(v, oxygen, energy, environment):
    compare("V-O", environment, {"V": v, "O": oxygen}, energy)


@pytest.mark.parametrize("environment", range(len(ENVIRONMENTS)))
@pytest.mark.parametrize("counts", [(1, 1, 1, 4), (2, 1, 3, 10)])
def test_three_metals(counts, environment):
    compare("Mg-Mn-V-O", environment, dict(zip(("Mg", "Mn", "V", "O"), counts, strict=True)), -2.0)


@pytest.mark.parametrize("environment", [0, 1])
@pytest.mark.parametrize(
    ("system", "formula"),
    [
        ("Ca-Mn-O", "CaMnO3"),
        ("Ca-Mn-O", "Ca2Mn3O8"),
        ("K-Mn-F", "KMnF3"),
        ("K-Mn-F", "KMnO2F"),
        ("K-Mn-F", "MnF3"),
        ("Zn-Sn-S", "ZnSnS3"),
        ("Zn-Sn-S", "SnS2"),
        ("Ti-O-N", "TiON"),
        ("Ti-O-N", "Ti3N4"),
    ],
)
def test_other_systems(system, formula, environment):
    counts = {symbol: int(n) for symbol, n in Composition(formula).get_el_amt_dict().items()}
    for energy in (-2.5, -1.0):
        compare(system, environment, counts, energy)


def test_hydroxides_compete_if_requested():
    conditions = {"potential_vs_rhe": 0.4}
    without = PourbaixAnalyzer(SYSTEMS["Mg-Mn-O"], PourbaixSettings(**conditions))
    with_them = PourbaixAnalyzer(
        SYSTEMS["Mg-Mn-O"], PourbaixSettings(**conditions, hydroxides=True)
    )
    periclase = CHGNET_FORMATION_ENERGIES["MgO"]
    assert with_them.stability("MgO", periclase).settings.hydroxides
    # Periclase converts to brucite at high pH.
    difference = np.subtract(
        with_them.stability("MgO", periclase).decomposition_energies,
        without.stability("MgO", periclase).decomposition_energies,
    )
    assert difference[0] == pytest.approx(0)
    assert difference[-1] > 0.01
