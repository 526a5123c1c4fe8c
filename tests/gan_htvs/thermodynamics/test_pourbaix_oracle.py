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
from gan_htvs.thermodynamics.pourbaix import PourbaixAnalyzer, free_energy_per_atom
from tests.helpers import references

from .conftest import CHGNET_FORMATION_ENERGIES

if TYPE_CHECKING:
    from gan_htvs.thermodynamics.hull import ReferenceSet

# eV/atom, from the measured enthalpies of the NBS tables (1982)
VANADIUM_OXIDES = {"VO": -2.238, "V2O3": -2.526, "VO2": -2.465, "V2O5": -2.295}
# Not measured: solids with two metals, for diagrams of three metals.
MIXED = {"MgV2O6": -2.70, "Mg2V2O7": -2.85, "MnV2O6": -2.35}


def formation_energies(energies: dict[str, float], *elements: str) -> ReferenceSet:
    """Build a reference set in which the energies of elements are zero."""
    return references("test", dict.fromkeys((*elements, "O2"), 0.0) | energies)


SYSTEMS = {
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
