from __future__ import annotations

import csv
import hashlib
import math
import re
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from ase.phasediagram import parse_formula, solvated
from ase.units import kJ, mol
from pymatgen.core import Composition
from pymatgen.core.ion import Ion

from gan_htvs.core.errors import UserError
from gan_htvs.core.pourbaix_stability import PourbaixSettings
from gan_htvs.thermodynamics.ions import (
    SOLVENT,
    IonReference,
    IonSet,
    ion_set_of,
    required_reference_solids,
    shipped_ion_sets,
    unavailable_reason,
)

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = "mg-mn-v-nbs270-1", "78-elements-1"
SETS = {version: ion_set_of(PourbaixSettings(ion_set=version)) for version in (OLD, NEW)}
IONS = SETS[NEW]
METALS = set(IONS.reference_solids)

WATER = -237.129
"""Free energy of formation of water, kJ/mol, NBS tables (1982)."""

RT = 8.314462618e-3 * 298.15

ASE_TOLERANCE = 13.0
"""kJ/mol of an ion: the compilations are of 1968 and 1992."""

ESTIMATES = "the compilations have different estimates of this species"
ASE_DEVIATIONS = {
    "BiO[+]": ESTIMATES,
    "BrO3[-]": ESTIMATES,
    "Co(OH)2(aq)": ESTIMATES,
    "Fe(OH)2[+]": ESTIMATES,
    "H2GaO3[-]": ESTIMATES,
    "HCoO2[-]": ESTIMATES,
    "HFeO2[-]": ESTIMATES,
    "Hf[4+]": ESTIMATES,
    "InO2[-]": ESTIMATES,
    "Nb(OH)5(aq)": ESTIMATES,
    "NbO3[-]": ESTIMATES,
    "Pt[2+]": ESTIMATES,
    "S4O6[2-]": ESTIMATES,
    "ZrO[2+]": ESTIMATES,
    "HCOOH(aq)": "ASE has carbon monoxide, which differs from formic acid by water",
    "Ru(OH)2[2+]": "ASE converts kilojoules as if they were kilocalories",
    "Sc(OH)[2+]": "ASE has a tenth of the value",
    "TlOH(aq)": "the value is that of Tl[+] and OH[-], which are not bound",
}


def amounts(reference: IonReference) -> dict[str, float]:
    return reference.ion.composition.get_el_amt_dict()


def metal_in(reference: IonReference) -> str:
    (metal,) = set(amounts(reference)) - SOLVENT
    return metal


def without_water(
    composition: dict[str, float], charge: float, energy: float
) -> tuple[tuple[str, float, float], int, float]:
    """Remove all H as water.

    Returns
    -------
    Metal, O and charge per metal atom; number of metal atoms; free energy per metal atom, kJ/mol.
    """
    (metal,) = set(composition) - SOLVENT
    n_metal, n_water = composition[metal], composition.get("H", 0) / 2
    oxygen = (composition.get("O", 0) - n_water) / n_metal
    key = (metal, round(oxygen, 6), round(charge / n_metal, 6))
    return key, int(n_metal), (energy - n_water * WATER) / n_metal


def form_of(reference: IonReference) -> tuple[tuple[str, float, float], int, float]:
    return without_water(amounts(reference), reference.ion.charge, reference.free_energy)


def dilute_energy(reference: IonReference) -> float:
    """Compute the free energy per metal atom at 1e-6 mol/l of metal, kJ/mol."""
    _, n_metal, energy = form_of(reference)
    return energy + RT * math.log(1e-6 / n_metal) / n_metal


def as_written(formula: str) -> str:
    """Correct formulas of the published table."""
    formula = formula.replace(" ", "")
    return {"IrO4[-2]": "IrO4[2-]", "H2RuO5": "H2RuO5(aq)"}.get(formula, formula)


def test_shipped_tables():
    assert set(shipped_ion_sets()) == {OLD, NEW}
    assert {version: table.version for version, table in SETS.items()} == {OLD: OLD, NEW: NEW}
    assert len(METALS) == 78
    assert PourbaixSettings().ion_set == NEW


def test_formulas_and_charges_in_pymatgen():
    for reference in IONS.ions:
        formula, charge = re.fullmatch(r"(.+?)(?:\[(.+)\]|\(aq\))", reference.formula).groups()
        expected = int((charge[-1] + (charge[:-1] or "1")) if charge else 0)
        assert reference.ion.charge == expected
        assert reference.ion.composition == Composition(formula)


def test_magnesium_manganese_and_vanadium_are_the_same_in_both_tables():
    old = SETS[OLD]
    assert {r.formula: r for r in IONS.ions if metal_in(r) in ("Mg", "Mn", "V")} == {
        r.formula: r for r in old.ions
    }
    assert {metal: IONS.reference_solids[metal] for metal in ("Mg", "Mn", "V")} == (
        old.reference_solids
    )
    assert IONS.hydroxides == old.hydroxides


def test_ions_are_the_published_ones_without_duplicates_by_water(ion_table: Path):
    with ion_table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    forms = defaultdict(list)
    for row in rows:
        formula, energy = as_written(row["ion"]), float(row["dGf_kJ_mol"])
        reference = IonReference(formula=formula, free_energy=energy, source="")
        forms[form_of(reference)[0]].append(reference)
        solid = IONS.reference_solids[row["element"]]
        assert solid.formula == row["reference_solid"]
        assert solid.free_energy == float(row["dGf_reference_solid_kJ_mol"])
    kept = [min(references, key=dilute_energy) for references in forms.values()]
    assert {r.formula: r.free_energy for r in kept} == {r.formula: r.free_energy for r in IONS.ions}
    assert {metal_in(reference) for reference in kept} == METALS


def test_free_energies_agree_with_ase():
    in_ase = defaultdict(list)
    for name, energy in solvated(METALS):
        composition, charge, _ = parse_formula(name)
        if len(set(composition) - SOLVENT) == 1:
            key, n_metal, free_energy = without_water(composition, charge, energy / (kJ / mol))
            in_ase[key, n_metal].append(free_energy)
    deviations = {}
    for reference in IONS.ions:
        key, n_metal, energy = form_of(reference)
        if (key, n_metal) in in_ase:
            difference = min(abs(energy - other) for other in in_ase[key, n_metal]) * n_metal
            deviations[reference.formula] = difference
    assert len(deviations) > 200
    far = {formula for formula, deviation in deviations.items() if deviation > ASE_TOLERANCE}
    assert far == set(ASE_DEVIATIONS)


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
        assert metal_in(solid) in METALS
        assert set(amounts(solid)) >= {"H", "O"}


def test_every_element_has_one_reference_solid_that_contains_it():
    for symbol, solid in IONS.reference_solids.items():
        assert symbol in Composition(solid.formula)


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        (("Mg", "Mn", "O"), {"MgO", "MnO2"}),
        (("K", "Mn", "F"), {"K2O", "MnO2", "NaF", "Na", "O2"}),
        (("Zn", "Sn", "S"), {"ZnO", "SnO", "Na2SO4", "Na", "O2"}),
        (("Ti", "O", "N"), {"TiO2", "N2O5"}),
        (("Na", "Cl"), {"Na2O", "NaCl", "O2"}),
        (("Pt", "O"), {"Pt"}),
        (("Xe", "H", "O"), set()),
    ],
)
def test_required_reference_solids(elements, expected):
    assert set(required_reference_solids(elements, IONS)) == expected


class TestUnavailableReason:
    def test_is_none_with_the_required_solids(self):
        elements = ("K", "Mn", "F")
        assert unavailable_reason(elements, required_reference_solids(elements, IONS), IONS) is None

    @pytest.mark.parametrize(
        ("elements", "phases", "named"),
        [
            (("K", "Mn", "F"), ("K2O", "MnO2", "Na", "O2"), "NaF"),
            (("K", "Mn", "F"), ("K2O", "Mn2O4", "NaF", "O2"), "lack Na,"),
            (("K", "F"), (), "K2O, O2"),
            (("Kr", "O"), (), "ions of Kr"),
            (("Mg", "H", "O"), ("MgO",), "solids with H"),
            (("O",), (), "besides H and O"),
        ],
    )
    def test_names_what_is_missing(self, elements, phases, named):
        assert named in unavailable_reason(elements, phases, IONS)

    def test_element_without_ions_has_no_data(self):
        ions = tuple(ion for ion in IONS.ions if metal_in(ion) == "Mn")
        table = IONS.model_copy(update={"ions": ions})
        assert required_reference_solids(("Mg", "Mn", "O"), table) == ("MnO2",)
        phases = ("MgO", "MnO2")
        assert unavailable_reason(("Mn", "O"), phases, table) is None
        assert "ions of Mg;" in unavailable_reason(("Mg", "Mn", "O"), phases, table)
        empty = IONS.model_copy(update={"ions": ()})
        assert "ions of Mn;" in unavailable_reason(("Mn", "O"), phases, empty)

    def test_ion_with_a_foreign_element_is_no_data(self):
        permanganate = IonReference(formula="KMnO4(aq)", free_energy=-730, source="")
        table = IONS.model_copy(update={"ions": (permanganate,)})
        assert "ions of Mn;" in unavailable_reason(("Mn", "O"), ("MnO2",), table)
        assert unavailable_reason(("K", "Mn", "O"), ("K2O", "MnO2"), table) is None


SILVER = """\
version: silver-1
reference_solids:
  Ag: {formula: Ag2O, free_energy: -11.18, source: a handbook}
ions:
  - {formula: "Ag[+]", free_energy: 77.1, source: a handbook}
"""


class TestIonFile:
    def test_is_used_instead_of_the_shipped_table(self, tmp_path: Path):
        file = tmp_path / "silver.yaml"
        file.write_text(SILVER, encoding="utf-8")
        sha256 = hashlib.sha256(SILVER.encode()).hexdigest()
        table = ion_set_of(PourbaixSettings(ion_file=file, sha256=sha256))
        assert table.version == "silver-1"
        assert [ion.free_energy for ion in table.ions] == [77.1]
        with pytest.raises(UserError, match="hash"):
            ion_set_of(PourbaixSettings(ion_file=file, sha256="0" * 64))

    @pytest.mark.parametrize(
        ("old", "new", "problem"),
        [
            ("Ag2O,", "Au2O3,", "Ag"),
            ("Ag2O,", "AgOH,", "no H"),
            ("Ag[+]", "Xx[+]", r"ions\.0: 'Xx\[\+\]' is not a formula"),
            ("Ag[+]", "AgQ[+]", r"ions\.0: 'AgQ\[\+\]' is not a formula"),
            ("Ag2O,", "AgXx,", r"reference_solids\.Ag: 'AgXx' is not a formula"),
            ("Ag[+]", "Ag[+", r"ions\.0: 'Ag\[\+' is not a formula"),
            ("Ag2O,", "Foo,", r"reference_solids\.Ag: 'Foo' is not a formula"),
            ("Ag[+]", "Cu[+]", "Cu"),
            ("Ag[+]", "OH[-]", "besides H and O"),
            ("77.1", "much", "free_energy"),
            ("version: silver-1\n", "", "version"),
            ("ions:\n", 'ions:\n  - {formula: "AgH2O[+]", free_energy: 0, source: x}\n', "water"),
            ("ions:\n", 'ions:\n  - {formula: "Ag[+]", free_energy: 0, source: x}\n', "twice"),
            ("silver-1", NEW, "version"),
            ("Ag[+]", "Ag", "charge"),
            ("Ag[+]", "Ag[2]", "charge"),
            ("Ag[+]", "Ag2+", "charge in brackets"),  # pymatgen: two atoms, charge 1
            ("Ag[+]", "Ag[x+]", "charge in brackets"),
        ],
    )
    def test_invalid_table_is_a_user_error(self, old, new, problem, tmp_path: Path):
        assert old in SILVER
        file = tmp_path / "wrong.yaml"
        file.write_text(SILVER.replace(old, new), encoding="utf-8")
        with pytest.raises(UserError, match=f"wrong.yaml.*{problem}"):
            ion_set_of(PourbaixSettings(ion_file=file))

    def test_missing_file_is_a_user_error(self, tmp_path: Path):
        with pytest.raises(UserError, match=r"none\.yaml"):
            ion_set_of(PourbaixSettings(ion_file=tmp_path / "none.yaml"))


def test_oligomers_count_as_duplicates_by_water():
    solids = {"V": IONS.reference_solids["V"]}
    monomer, dimer = (
        IonReference(formula=formula, free_energy=energy, source="")
        for formula, energy in (("HVO4[2-]", -974.8), ("V2O7[4-]", -1719.8))
    )
    assert IonSet(version="test", reference_solids=solids, ions=(monomer,)).ions == (monomer,)
    with pytest.raises(ValueError, match="water"):
        IonSet(version="test", reference_solids=solids, ions=(monomer, dimer))


def test_ion_reference_has_the_ion_of_pymatgen():
    assert IonReference(formula="MnO4[-]", free_energy=0, source="").ion == Ion.from_formula(
        "MnO4[-]"
    )
