from __future__ import annotations

import numpy as np
import pytest
import yaml
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from gan_htvs.errors import UserError
from gan_htvs.thermodynamics.references import (
    REFERENCE_PHASES,
    ReferencePhase,
    reference_phases,
)

DOCUMENTS = {
    document["name"]: document
    for document in yaml.safe_load(REFERENCE_PHASES.read_text(encoding="utf-8"))["phases"]
}
PHASES = reference_phases(("Mg", "Mn", "O"))


def test_every_phase_of_the_file_is_found_once_and_has_a_source():
    assert [phase.name for phase in PHASES] == list(DOCUMENTS)
    assert all(phase.source for phase in PHASES)


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name)
class TestCrystal:
    def test_has_the_stated_formula(self, phase: ReferencePhase):
        assert phase.formula == DOCUMENTS[phase.name]["formula"]

    def test_has_the_stated_symmetry(self, phase: ReferencePhase):
        found = SpacegroupAnalyzer(phase.structure, symprec=0.01).get_space_group_symbol()
        assert found == DOCUMENTS[phase.name]["space_group"]

    def test_atoms_keep_their_distance(self, phase: ReferencePhase):
        distances = phase.structure.distance_matrix + 99 * np.eye(len(phase.structure))
        assert distances.min() > (1.1 if phase.formula == "O2" else 1.8)

    def test_cations_are_coordinated_by_four_or_six_oxygens(self, phase: ReferencePhase):
        if len(phase.structure.composition) == 1:
            pytest.skip("an element")
        for site in phase.structure:
            if site.specie.symbol != "O":
                neighbors = phase.structure.get_neighbors(site, 2.6)
                assert sum(n.specie.symbol == "O" for n in neighbors) in (4, 6)


def test_alpha_manganese_has_29_atoms_in_its_primitive_cell():
    (phase,) = (phase for phase in PHASES if phase.name == "Mn alpha")
    assert len(phase.structure) == 29


def test_only_oxygen_is_pinned_to_the_materials_project():
    pinned = {p.formula: p.pinned_energy_per_atom for p in PHASES if p.pinned_energy_per_atom}
    assert pinned == {"O2": -4.94795546875}


def test_a_subsystem_gets_only_its_own_phases():
    assert {phase.formula for phase in reference_phases(["Mg", "O"])} == {"Mg", "O2", "MgO"}


def test_an_element_without_data_is_named_with_the_cure():
    with pytest.raises(UserError, match=r"known for V; choose elements among Mg, Mn, O .*yaml"):
        reference_phases(["V", "O"])
