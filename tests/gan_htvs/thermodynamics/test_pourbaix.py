from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pymatgen.analysis.phase_diagram import PhaseDiagram
from pymatgen.core import Composition
from pymatgen.core.entries import ComputedEntry
from pymatgen.entries.compatibility import MaterialsProjectAqueousCompatibility

from gan_htvs.core.errors import UserError
from gan_htvs.core.hashing import hash_of_path
from gan_htvs.core.pourbaix_stability import PourbaixSettings
from gan_htvs.thermodynamics.ions import ion_set_of
from gan_htvs.thermodynamics.pourbaix import (
    ELEMENTAL_ENTROPIES,
    KJ_PER_MOL_PER_EV,
    PourbaixAnalyzer,
    PourbaixStability,
    free_energy_per_atom,
)
from tests.helpers import references

from .conftest import CHGNET_FORMATION_ENERGIES, formation_energy_set

if TYPE_CHECKING:
    from gan_htvs.thermodynamics.hull import ReferenceSet

SETTINGS = PourbaixSettings()

# eV/atom at pH 0, 7 and 14, 1.5 V vs RHE, 1e-6 M, CHGNet energies with O2 pinned.
PUBLISHED = {
    "MgO": (0.813, 0.399, 0.061),
    "MnO": (0.817, 0.894, 1.101),
    "MnO2": (0.013, 0.064, 0.202),
    "Mn2O3": (0.159, 0.221, 0.386),
    "Mn3O4": (0.308, 0.375, 0.552),
    "MgMn2O4": (0.332, 0.258, 0.279),
    "MgMnO3": (0.267, 0.133, 0.080),
    "Mg2MnO4": (0.391, 0.177, 0.043),
    "Mg6MnO8": (0.591, 0.270, 0.027),
    "Mg2Mn3O8": (0.204, 0.113, 0.104),
}
PUBLISHED_MINIMUM = {formula: min(values) for formula, values in PUBLISHED.items()} | {
    "Mg2Mn3O8": 0.093
}

# kJ/mol, NBS tables (1982)
MEASURED_FREE_ENERGIES = {
    "MgO": -569.43,
    "MnO": -362.90,
    "Mn3O4": -1283.2,
    "Mn2O3": -881.1,
    "MnO2": -465.14,
}
# eV/atom, Materials Project GGA+U with the MP2020 corrections
MP_FORMATION_ENERGIES = {
    "MgO": -3.053,
    "MnO": -1.979,
    "Mn3O4": -2.050,
    "Mn2O3": -2.014,
    "MnO2": -1.776,
}


def _measured_formation_energies() -> dict[str, float]:
    """Compute the formation energies that correspond to measured free energies."""
    energies = {}
    for formula, free_energy in MEASURED_FREE_ENERGIES.items():
        composition = Composition(formula)
        per_atom = free_energy / KJ_PER_MOL_PER_EV / composition.num_atoms
        entropy = ELEMENTAL_ENTROPIES["O"] * composition.get_atomic_fraction("O")
        energies[formula] = per_atom - entropy
    return energies


def test_results_have_the_name_and_hash_of_a_file_of_ions(chgnet_column, tmp_path):
    shipped = PourbaixSettings(ion_set="mg-mn-v-nbs270-1")
    file = tmp_path / "ions.yaml"
    table = ion_set_of(shipped).model_copy(update={"version": "mine-1"})
    file.write_text(table.model_dump_json())
    settings = PourbaixSettings(ion_file=file)
    stability = PourbaixAnalyzer(chgnet_column, settings).stability("MgO", -3.06)
    assert stability.settings.ion_file == Path("ions.yaml")
    assert stability.settings.sha256 == hash_of_path(file)
    assert str(tmp_path) not in stability.model_dump_json()
    expected = PourbaixAnalyzer(chgnet_column, shipped).stability("MgO", -3.06)
    assert stability.minimum == expected.minimum


@pytest.fixture(scope="module")
def analyzer(chgnet_column: ReferenceSet) -> PourbaixAnalyzer:
    return PourbaixAnalyzer(chgnet_column, SETTINGS)


@pytest.fixture(scope="module")
def relaxed_analyzer(relaxed: ReferenceSet) -> PourbaixAnalyzer:
    return PourbaixAnalyzer(relaxed, SETTINGS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "formula", ["MgO", "Mn3O4", "Mg6MnO8", "Mg3N2", "MnF2", "MnO2F", "MgCl2", "MgBr2", "HgO"]
)
def test_free_energy_agrees_with_the_materials_project(formula: str):
    o2_energy, energy = -4.94795546875, -7.0
    compatibility = MaterialsProjectAqueousCompatibility(
        solid_compat=None,
        o2_energy=o2_energy,
        h2o_energy=-5.192751548333333,
        h2o_adjustments=-0.229,
    )
    elements = {"Mg": -1.6, "Mn": -9.1, "O2": o2_energy, "N2": -8.3, "F2": -1.9, "Cl2": -1.8}
    elements |= {"Br": -1.6, "Hg": -0.3}
    entries = [
        ComputedEntry(Composition(f), e * Composition(f).num_atoms)
        for f, e in {**elements, formula: energy}.items()
    ]
    uncorrected = PhaseDiagram(entries).get_form_energy_per_atom(entries[-1])
    processed = compatibility.process_entries(entries, inplace=False, on_error="raise")
    expected = PhaseDiagram(processed).get_form_energy_per_atom(processed[-1])
    assert free_energy_per_atom(formula, uncorrected) == pytest.approx(expected)


class TestPublishedColumn:
    @pytest.mark.parametrize("formula", PUBLISHED)
    def test_pourbaix_energies(self, formula: str, analyzer: PourbaixAnalyzer):
        # The published MnO2 is pyrolusite; the reference set has hollandite, the ground state.
        energy = -1.781 if formula == "MnO2" else CHGNET_FORMATION_ENERGIES[formula]
        result = analyzer.stability(formula, energy)
        at_ph = [result.decomposition_energies[i] for i in (0, 14, 28)]
        assert at_ph == pytest.approx(PUBLISHED[formula], abs=0.02)
        assert result.minimum == pytest.approx(PUBLISHED_MINIMUM[formula], abs=0.02)

    def test_effect_of_permanganate(self, analyzer: PourbaixAnalyzer):
        ions = tuple(ion for ion in analyzer.ion_set.ions if ion.formula != "MnO4[-]")
        fewer = analyzer.ion_set.model_copy(update={"ions": ions})
        without = PourbaixAnalyzer(analyzer.reference_set, SETTINGS)
        without.ion_set = fewer
        with_it = analyzer.stability("MgMn2O4", CHGNET_FORMATION_ENERGIES["MgMn2O4"])
        result = without.stability("MgMn2O4", CHGNET_FORMATION_ENERGIES["MgMn2O4"])
        assert with_it.minimum == pytest.approx(0.258, abs=0.01)
        assert result.minimum == pytest.approx(0.160, abs=0.01)


@pytest.mark.parametrize(
    ("energies", "expected"),
    [
        (
            _measured_formation_energies(),
            {"MgO": 0.060, "MnO": 0.801, "Mn3O4": 0.321, "Mn2O3": 0.210, "MnO2": 0},
        ),
        (
            MP_FORMATION_ENERGIES,
            {"MgO": 0.061, "MnO": 0.797, "Mn3O4": 0.297, "Mn2O3": 0.162, "MnO2": 0},
        ),
        (
            {f: CHGNET_FORMATION_ENERGIES[f] for f in MP_FORMATION_ENERGIES},
            {"MgO": 0.061, "MnO": 0.817, "Mn3O4": 0.308, "Mn2O3": 0.159, "MnO2": 0},
        ),
    ],
    ids=["measured", "Materials Project", "CHGNet"],
)
def test_agreement_of_experiment_and_theory(energies: dict[str, float], expected: dict[str, float]):
    analyzer = PourbaixAnalyzer(formation_energy_set(energies), SETTINGS)
    minima = {f: analyzer.stability(f, energy).minimum for f, energy in energies.items()}
    assert minima == pytest.approx(expected, abs=0.06)


class TestChgnet:
    @pytest.mark.parametrize("formula", PUBLISHED)
    def test_relaxed_phases_have_the_published_energies(
        self, formula: str, relaxed_analyzer: PourbaixAnalyzer
    ):
        references = relaxed_analyzer.reference_set
        # The published MnO2 is pyrolusite, the least stable one here.
        energy = max(e.energy_per_atom for e in references.entries if e.formula == formula)
        result = relaxed_analyzer.stability(
            formula, references.formation_energy_per_atom(formula, energy)
        )
        at_ph = [result.decomposition_energies[i] for i in (0, 14, 28)]
        assert at_ph == pytest.approx(PUBLISHED[formula], abs=0.02)
        assert result.minimum == pytest.approx(PUBLISHED_MINIMUM[formula], abs=0.02)


# kJ/mol, NBS tables (1982)
MEASURED_ENTHALPIES = {
    "TiO2": -944.7,
    "SnO": -285.8,
    "SnO2": -580.7,
    "Al2O3": -1675.7,
    "ZnO": -348.3,
    "Cr2O3": -1139.7,
    "WO3": -842.9,
    "CaO": -635.1,
    "Fe2O3": -824.2,
}


@pytest.fixture(scope="module")
def measured_oxides() -> ReferenceSet:
    energies = {
        formula: enthalpy / KJ_PER_MOL_PER_EV / Composition(formula).num_atoms
        for formula, enthalpy in MEASURED_ENTHALPIES.items()
    }
    elements = {el.symbol for f in MEASURED_ENTHALPIES for el in Composition(f).elements}
    return references(
        "measured",
        dict.fromkeys((Composition(el).reduced_formula for el in elements), 0) | energies,
    )


@pytest.mark.parametrize(
    ("formula", "potential", "acid", "neutral", "base"),
    [
        ("TiO2", 1.5, True, True, True),
        ("SnO2", 1.5, True, True, False),
        ("Fe2O3", 0.6, False, True, True),
        ("Al2O3", 0.6, False, True, False),
        ("ZnO", 0.6, False, False, False),  # soluble above 1e-6 mol/l except near pH 9.5
        ("WO3", 1.5, True, False, False),
        ("CaO", 0.6, False, False, False),
        ("Cr2O3", 0.6, False, True, True),
        ("Cr2O3", 1.5, False, False, False),  # oxidized to chromate
    ],
)
def test_stability_of_oxides_agrees_with_the_atlas_of_pourbaix(
    formula: str,
    potential: float,
    *,
    acid: bool,
    neutral: bool,
    base: bool,
    measured_oxides: ReferenceSet,
):
    analyzer = PourbaixAnalyzer(measured_oxides, PourbaixSettings(potential_vs_rhe=potential))
    enthalpy = MEASURED_ENTHALPIES[formula] / KJ_PER_MOL_PER_EV
    result = analyzer.stability(formula, enthalpy / Composition(formula).num_atoms)
    at_ph = [result.decomposition_energies[i] < 0.001 for i in (0, 14, 28)]
    assert at_ph == [acid, neutral, base]


class TestStability:
    def test_manganese_oxide_is_not_compared_with_magnesium(self, analyzer: PourbaixAnalyzer):
        without_mg = formation_energy_set(
            {f: e for f, e in CHGNET_FORMATION_ENERGIES.items() if "Mg" not in f}
        )
        expected = PourbaixAnalyzer(without_mg, SETTINGS).stability("Mn2O3", -2.0)
        result = analyzer.stability("Mn2O3", -2.0)
        assert result.decomposition_energies == pytest.approx(expected.decomposition_energies)
        assert not any("Mg" in species for species in result.decomposes_to)

    def test_candidate_below_the_diagram_has_a_negative_energy(self, analyzer: PourbaixAnalyzer):
        assert analyzer.stability("MnO2", -1.9).minimum < -0.05

    def test_candidate_is_not_added_to_the_diagram(self, analyzer: PourbaixAnalyzer):
        before = analyzer.stability("MgMn2O4", -2.0)
        analyzer.stability("MgMn2O4", -3.0)
        assert analyzer.stability("MgMn2O4", -2.0) == before

    def test_energies_shift_with_the_formation_energy(self, analyzer: PourbaixAnalyzer):
        low, high = (analyzer.stability("MgMn2O4", e).decomposition_energies for e in (-2.3, -2.1))
        assert np.subtract(high, low) == pytest.approx(np.full(29, 0.2))

    def test_supercell_has_the_energies_of_its_primitive_cell(self, analyzer: PourbaixAnalyzer):
        parent = analyzer.stability("MgMn2O4", -2.3)
        supercell = analyzer.stability("Mg4Mn8O16", -2.3)
        assert supercell.decomposition_energies == pytest.approx(parent.decomposition_energies)

    def test_oxides_with_equal_metal_ratios_differ_by_oxygen(self, analyzer: PourbaixAnalyzer):
        assert analyzer.stability("MgMnO3", -2.3).minimum != pytest.approx(
            analyzer.stability("MgMnO2", -2.3).minimum
        )

    def test_species_at_the_minimum(self, analyzer: PourbaixAnalyzer):
        result = analyzer.stability("MgO", -3.06)
        assert (result.ph_at_minimum, result.decomposes_to) == (14, ("MgOH[+]",))

    def test_effect_of_ion_concentration(self, chgnet_column: ReferenceSet):
        concentrated = SETTINGS.model_copy(update={"ion_concentration": 1e-2})
        dilute = PourbaixAnalyzer(chgnet_column, SETTINGS).stability("MgO", -3.06)
        dense = PourbaixAnalyzer(chgnet_column, concentrated).stability("MgO", -3.06)
        in_acid = dilute.decomposition_energies[0] - dense.decomposition_energies[0]
        assert in_acid == pytest.approx(0.0591 * 4 / 2)

    def test_stability_has_its_settings(self, analyzer: PourbaixAnalyzer):
        result = analyzer.stability("MgMn2O4", -2.3)
        assert result.settings == SETTINGS
        assert result.ion_set == ion_set_of(SETTINGS).version
        assert result.level_of_theory == "test"
        assert not result.settings.hydroxides
        assert PourbaixStability.model_validate(result.model_dump(mode="json")) == result

    @pytest.mark.parametrize(
        ("formula", "message"),
        [
            ("O2", "O2: .* not defined"),
            ("KrO2", "KrO2: .* ions of Kr"),
            ("Mg(OH)2", "solids with H"),
        ],
    )
    def test_unsupported_composition_is_a_user_error(
        self, formula: str, message: str, analyzer: PourbaixAnalyzer
    ):
        with pytest.raises(UserError, match=message):
            analyzer.stability(formula, -1.0)

    def test_missing_reference_solid_is_a_user_error(self):
        references = formation_energy_set({"MnO": -1.968})
        with pytest.raises(UserError, match="lack MnO2"):
            PourbaixAnalyzer(references, SETTINGS).stability("MnO", -1.968)

    def test_both_tables_have_the_same_numbers(self, chgnet_column: ReferenceSet):
        old = SETTINGS.model_copy(update={"ion_set": "mg-mn-v-nbs270-1"})
        for formula, energy in CHGNET_FORMATION_ENERGIES.items():
            before, after = (
                PourbaixAnalyzer(chgnet_column, settings).stability(formula, energy)
                for settings in (old, SETTINGS)
            )
            assert after.decomposition_energies == before.decomposition_energies
            assert after.decomposes_to == before.decomposes_to

    def test_phases_of_foreign_elements_only_shift_the_ions(self):
        energies = dict.fromkeys(("K", "Na", "F2", "O2"), 0.0)
        energies |= {"K2O": -1.249, "KF": -2.940, "NaF": -2.973}
        expected = PourbaixAnalyzer(references("test", energies), SETTINGS).stability("KF", -2.94)
        assert not any("Na" in species for species in expected.decomposes_to)
        # F[-] follows NaF: 0.1 eV/atom are 0.2 eV per F, and 0.1 eV per atom of KF.
        shifted = references("test", energies | {"NaF": -2.873})
        result = PourbaixAnalyzer(shifted, SETTINGS).stability("KF", -2.94)
        assert np.subtract(
            expected.decomposition_energies, result.decomposition_energies
        ) == pytest.approx(np.full(29, 0.1))

    def test_batch_agrees_with_single_candidates(self, analyzer: PourbaixAnalyzer):
        formulas = ["MgMn2O4", "MnO2", "MgO", "Mg2Mn4O8", "MgMnO3", "Mn2O3"]
        energies = [-2.3, -1.7, -3.0, -2.2, -2.3, -2.0]
        batch = analyzer.stabilities(formulas, energies)
        for formula, energy, stability in zip(formulas, energies, batch, strict=True):
            single = analyzer.stability(formula, energy)
            assert stability.decomposition_energies == pytest.approx(single.decomposition_energies)
            assert stability.decomposes_to == single.decomposes_to

    def test_unknown_table_of_ions_is_a_user_error(self, chgnet_column: ReferenceSet):
        old = SETTINGS.model_copy(update={"ion_set": "other-0"})
        with pytest.raises(UserError, match="ion_set: 'other-0'"):
            PourbaixAnalyzer(chgnet_column, old)
