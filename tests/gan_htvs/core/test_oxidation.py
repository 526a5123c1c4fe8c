from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.core.candidate import RelaxedStructure
from gan_htvs.core.document import decode, encode
from gan_htvs.core.oxidation import MOMENTS, OxidationStates, oxidation_states
from gan_htvs.potentials.calculators import calculator_of
from gan_htvs.thermodynamics.references import reference_phases
from tests.helpers import relaxed

PHASES = {phase.name: phase.structure for phase in reference_phases(["Mg", "Mn", "O"])}
PHASES |= {phase.name: phase.structure for phase in reference_phases(["V", "O"])}
MNO = PHASES["MnO manganosite"]
HAUSMANNITE = PHASES["Mn3O4 hausmannite"]


def states_by_chgnet(structure: Structure) -> OxidationStates:
    pytest.importorskip("chgnet")
    atoms = structure.to_ase_atoms()
    atoms.calc = calculator_of("chgnet")
    return oxidation_states(structure, atoms.get_magnetic_moments().tolist())


@pytest.mark.parametrize(
    ("name", "metal", "states"),
    [
        ("MnO manganosite", "Mn", {2: 1}),
        ("Mn3O4 hausmannite", "Mn", {2: 2, 3: 4}),
        ("Mn5O8", "Mn", {2: 2, 4: 3}),
        ("MgMn2O4 tetragonal", "Mn", {3: 4}),
        ("Mg3Mn3O8", "Mn", {3: 2, 4: 1}),
        ("MnO2 beta (pyrolusite)", "Mn", {4: 2}),
        ("MgMnO3 ilmenite", "Mn", {4: 2}),
        ("Mg6MnO8", "Mn", {4: 1}),
        ("V2O3 corundum", "V", {3: 4}),
        ("VO2 rutile", "V", {4: 2}),
        ("V2O5", "V", {5: 4}),
    ],
)
def test_states_of_oxides_from_chgnet_moments(name, metal, states):
    structure = PHASES[name]
    result = states_by_chgnet(structure)
    of_metal = [
        state
        for site, state in zip(structure, result.states, strict=True)
        if site.specie.symbol == metal
    ]
    assert {state: of_metal.count(state) for state in set(of_metal)} == states
    assert result.is_neutral
    assert result.average[metal] == pytest.approx(np.mean(of_metal))


@pytest.mark.parametrize("name", ["Mg hcp", "V bcc", "Mn alpha"])
def test_metals_have_no_states(name):
    result = states_by_chgnet(PHASES[name])
    assert set(result.states) == {None}
    assert result.is_neutral is None
    assert result.average == {}


def test_peroxide_oxygen_has_no_state():
    result = oxidation_states(PHASES["MgO2"], [0] * 12)
    assert result.is_neutral is None
    assert result.average == {"Mg": 2}


def test_sign_of_moments_is_ignored():
    cell = MNO.make_supercell([2, 1, 1], in_place=False)
    assert oxidation_states(cell, [4.6, -4.6, 0, 0]) == oxidation_states(cell, [4.6, 4.6, 0, 0])


def test_moment_between_ranges_has_no_state():
    result = oxidation_states(MNO, [1.7, 0])
    assert result.states == (None, -2)
    assert result.is_neutral is None
    assert result.average == {"O": -2}


def test_nonzero_sum_is_not_neutral():
    assert oxidation_states(MNO, [3.1, 0]).is_neutral is False


def test_element_with_several_states_and_no_ranges_has_no_state():
    rutile = Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.59, 2.96), ["Ti", "O"], [[0] * 3, [0.305, 0.305, 0]]
    )
    assert oxidation_states(rutile, [0] * 6).average == {"O": -2}


def test_ranges_are_disjoint():
    for ranges in MOMENTS.values():
        ends = [end for pair in sorted(ranges.values()) for end in pair]
        assert ends == sorted(ends)
        # More unpaired electrons, or a pairing of all.
        assert all(low < high for low, high in ranges.values())


def test_wrong_number_of_moments_is_an_error():
    with pytest.raises(ValueError, match=r"len\(magmoms\)=1"):
        oxidation_states(MNO, [4.6])


def test_collapsed_cell_is_handled():
    collapsed = HAUSMANNITE.copy()
    collapsed.scale_lattice(1e-4)
    assert oxidation_states(collapsed, [4] * len(collapsed)).average == {"Mn": 3}


def relaxed_mno(magmoms: list[float] | None) -> RelaxedStructure:
    return relaxed(MNO, -8.0).model_copy(update={"magmoms": magmoms})


class TestRelaxed:
    def test_states_are_computed_from_moments(self):
        stored = encode(relaxed_mno([4.6, 0.1]))
        assert stored["oxidation_states"]["average"] == {"Mn": 2, "O": -2}
        assert RelaxedStructure.model_validate(decode(stored)).oxidation_states.states == (2, -2)

    def test_no_states_without_moments(self):
        assert encode(relaxed_mno(None))["oxidation_states"] is None

    def test_documents_without_states_are_read(self):
        stored = encode(relaxed_mno([4.6, 0.1]))
        del stored["oxidation_states"]
        assert RelaxedStructure.model_validate(decode(stored)).oxidation_states.is_neutral
