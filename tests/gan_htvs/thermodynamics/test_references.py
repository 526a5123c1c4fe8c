from __future__ import annotations

import numpy as np
import pytest
import yaml
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from gan_htvs.engines import EnergyEngineSettings
from gan_htvs.errors import UserError
from gan_htvs.relaxation import Relaxations
from gan_htvs.thermodynamics.pourbaix import KJ_PER_MOL_PER_EV
from gan_htvs.thermodynamics.references import (
    REFERENCE_PHASES,
    ReferencePhase,
    reference_phases,
)

DOCUMENTS = {
    document["name"]: document
    for document in yaml.safe_load(REFERENCE_PHASES.read_text(encoding="utf-8"))["phases"]
}
MG_MN_O = reference_phases(("Mg", "Mn", "O"))
V_O = reference_phases(("V", "O"))
PHASES = MG_MN_O + [phase for phase in V_O if phase.formula != "O2"]

SHORTEST = {"O2": 1.1, "MgO2": 1.4, "VO2": 1.7, "V6O13": 1.5, "V2O5": 1.5}
"""A: the bonds of oxygen, peroxide, dimers and vanadyl; all others are longer than 1.8."""

COORDINATION = {
    "Mn3O4 marokite type": {6, 8},
    "MgMn2O4 marokite type": {6, 8},
    "V2O5": {5},
}
"""Oxygens around cations, where there are not four or six."""

# kJ/mol of formula unit, NBS tables (1982)
MEASURED_ENTHALPIES = {"V2O3": -1218.8, "VO2": -717.6, "V2O5": -1550.6}


def test_every_phase_of_the_file_is_found_once_and_has_a_source():
    assert [phase.name for phase in PHASES] == list(DOCUMENTS)
    assert all(phase.source for phase in PHASES)
    assert (len(MG_MN_O), len(V_O)) == (25, 8)


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name)
class TestCrystal:
    def test_has_the_stated_formula(self, phase: ReferencePhase):
        assert phase.formula == DOCUMENTS[phase.name]["formula"]

    def test_has_the_stated_symmetry(self, phase: ReferencePhase):
        found = SpacegroupAnalyzer(phase.structure, symprec=0.01).get_space_group_symbol()
        assert found == DOCUMENTS[phase.name]["space_group"]

    def test_atoms_keep_their_distance(self, phase: ReferencePhase):
        distances = phase.structure.distance_matrix + 99 * np.eye(len(phase.structure))
        assert distances.min() > SHORTEST.get(phase.formula, 1.8)

    def test_cations_have_their_coordination(self, phase: ReferencePhase):
        if len(phase.structure.composition) == 1:
            pytest.skip("an element")
        for site in phase.structure:
            if site.specie.symbol != "O":
                neighbors = phase.structure.get_neighbors(site, 2.7)
                expected = COORDINATION.get(phase.name, {4, 6})
                assert sum(n.specie.symbol == "O" for n in neighbors) in expected


def test_alpha_manganese_has_29_atoms_in_its_primitive_cell():
    (phase,) = (phase for phase in PHASES if phase.name == "Mn alpha")
    assert len(phase.structure) == 29


def test_only_oxygen_is_pinned_to_the_materials_project():
    pinned = {p.formula: p.pinned_energy_per_atom for p in PHASES if p.pinned_energy_per_atom}
    assert pinned == {"O2": -4.94795546875}


def test_a_subsystem_gets_only_its_own_phases():
    formulas = {phase.formula for phase in reference_phases(["Mg", "O"])}
    assert formulas == {"Mg", "O2", "MgO", "MgO2"}


def test_an_element_without_data_is_named_with_the_cure():
    known = "known for Cr; choose elements among Mg, Mn, O, V .*yaml"
    with pytest.raises(UserError, match=known):
        reference_phases(["Cr", "O"])


class TestChgnet:
    """Energies after relaxing what the file lists, as a campaign does it."""

    @pytest.fixture(scope="class")
    def relaxations(self) -> Relaxations:
        pytest.importorskip("chgnet", reason="CHGNet is not installed")
        return Relaxations(EnergyEngineSettings())

    def test_vanadium_oxides_have_their_measured_energies(self, relaxations: Relaxations):
        references = relaxations.references(V_O)
        for formula, enthalpy in MEASURED_ENTHALPIES.items():
            entry = min(
                (entry for entry in references.entries if entry.formula == formula),
                key=lambda entry: entry.energy_per_atom,
            )
            energy = references.formation_energy_per_atom(formula, entry.energy_per_atom)
            measured = enthalpy / KJ_PER_MOL_PER_EV / entry.composition.num_atoms
            assert energy == pytest.approx(measured, abs=0.07)
            above = references.energy_above_hull(formula, entry.energy_per_atom)
            assert above == pytest.approx(0, abs=1e-6)

    # eV/atom, and the stable phases (with their parts of the atoms) that these decay into
    @pytest.mark.parametrize(
        ("name", "products", "above"),
        [
            ("MgMn2O4 marokite type", {"MgMn2O4 tetragonal": 1}, 0.053),
            ("Mn3O4 marokite type", {"Mn3O4 hausmannite": 1}, 0.022),
            (
                "Mg3Mn3O8",
                {"MgMn2O4 tetragonal": 0.5, "Mg2MnO4 inverse spinel (P4_122)": 0.5},
                -0.001,
            ),
        ],
    )
    def test_phases_lie_as_far_from_the_hull_as_published(
        self, name: str, products: dict[str, float], above: float, relaxations: Relaxations
    ):
        structures = {phase.name: phase.structure for phase in MG_MN_O}
        relaxed = relaxations.relax([structures[each] for each in (name, *products)])
        energy, *others = (each.energy_per_atom for each in relaxed)
        hull = np.dot(others, list(products.values()))
        assert energy - hull == pytest.approx(above, abs=0.004)
