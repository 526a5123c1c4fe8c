from __future__ import annotations

import re
from itertools import combinations

import pytest
from pymatgen.core import Composition
from pymatgen.core.ion import Ion

from gan_htvs.thermodynamics.ions import IonReference, aqueous_ions

IONS = aqueous_ions()
METALS = set(IONS.reference_solids)

WATER = -237.129
"""Free energy of formation of water, kJ/mol, NBS tables (1982)."""


def metal_in(composition: Composition) -> str:
    (metal,) = {element.symbol for element in composition} - {"H", "O"}
    return metal


def without_water(ion: Ion) -> tuple[str, float, float]:
    """Return the metal, and O and charge per metal atom after removing H as water."""
    composition = ion.composition
    metal = metal_in(composition)
    n_metal = composition[metal]
    oxygen = (composition["O"] - composition["H"] / 2) / n_metal
    return metal, round(oxygen, 6), round(ion.charge / n_metal, 6)


@pytest.mark.parametrize("reference", IONS.ions, ids=lambda reference: reference.formula)
class TestIon:
    def test_formula_and_charge_in_pymatgen(self, reference: IonReference):
        formula, charge = re.fullmatch(r"(.+?)(?:\[(.+)\]|\(aq\))", reference.formula).groups()
        expected = int((charge[-1] + (charge[:-1] or "1")) if charge else 0)
        ion = Ion.from_formula(reference.formula)
        assert ion.charge == expected
        assert ion.composition == Composition(formula)

    def test_metal_has_a_reference_solid(self, reference: IonReference):
        assert metal_in(Ion.from_formula(reference.formula).composition) in METALS


def test_no_two_ions_differ_only_by_water():
    forms = {ion.formula: without_water(Ion.from_formula(ion.formula)) for ion in IONS.ions}
    duplicates = [pair for pair in combinations(forms, 2) if forms[pair[0]] == forms[pair[1]]]
    assert duplicates == []


def test_metavanadate_equals_dihydrogen_vanadate_less_water():
    (metavanadate,) = (ion for ion in IONS.ions if ion.formula == "VO3[-]")
    assert metavanadate.free_energy + WATER == pytest.approx(-1020.8, abs=0.2)


def test_hydroxides_are_stable_against_dehydration():
    oxides = {"Mg(OH)2": -569.43, "Mn(OH)2": -362.90}  # NBS tables (1982)
    energies = {solid.formula: solid.free_energy for solid in IONS.hydroxides}
    assert set(energies) == {"Mg(OH)2", "Mn(OH)2", "MnOOH"}
    for formula, oxide in oxides.items():
        assert energies[formula] < oxide + WATER


def test_hydroxides_have_one_metal_with_a_reference_solid():
    for solid in IONS.hydroxides:
        composition = Composition(solid.formula)
        assert metal_in(composition) in METALS
        assert {"H", "O"} <= {element.symbol for element in composition}
