from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.phase_diagram import PDEntry
from pymatgen.core import Composition

from gan_htvs.core.errors import UserError
from gan_htvs.core.hashing import content_hash
from gan_htvs.thermodynamics.hull import LowerHull, ReferenceEnergy, ReferenceSet
from gan_htvs.thermodynamics.joint_hull import compare_on_hull
from tests.helpers import references

from .conftest import CHGNET_FORMATION_ENERGIES, formation_energy_set

# eV/atom, NBS tables (1982)
MEASURED_FORMATION_ENERGIES = {
    "MgO": -3.118,
    "MnO": -1.996,
    "Mn3O4": -2.055,
    "Mn2O3": -1.988,
    "MnO2": -1.797,
}

COUNTS = st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(1, 12))
HULL = formation_energy_set(CHGNET_FORMATION_ENERGIES)
DIAGRAM = HULL.phase_diagram


def _formula(counts: tuple[int, int, int]) -> str:
    return "Mg{}Mn{}O{}".format(*counts)


def _energy(name: str, formula: str, level: str = "CHGNet 0.3.0") -> ReferenceEnergy:
    return ReferenceEnergy(name=name, formula=formula, energy_per_atom=-1.0, level_of_theory=level)


class TestReferenceSet:
    def test_round_trip(self, chgnet_column: ReferenceSet):
        chgnet_column.energy_above_hull("MgO", -3.0)
        document = chgnet_column.model_dump(mode="json")
        restored = ReferenceSet.model_validate(document)
        assert restored.entries == chgnet_column.entries
        assert content_hash(restored) == content_hash(chgnet_column)
        assert restored.energy_above_hull("Mg2Mn4O8", -2.3) == pytest.approx(0.039)

    def test_phases_of_other_elements_do_not_change_the_hull(self):
        energies = {"K": 0.0, "Mn": 0.0, "F2": 0.0, "KF": -2.9, "MnF2": -2.8, "KMnF3": -2.95}
        foreign = {"Na": 0.0, "O2": 0.0, "NaF": -3.0, "MnO2": -1.8, "K2O": -1.2}
        small, large = references("test", energies), references("test", energies | foreign)
        assert large.within(("K", "Mn", "F")).entries == small.entries
        assert small.within(("K", "Mn", "F", "O")) is small
        formulas, numbers = ["KMnF3", "K2MnF4", "MnF3"], [-2.9, -2.8, -2.0]
        assert large.decomposition_energies(formulas, numbers) == pytest.approx(
            small.decomposition_energies(formulas, numbers), abs=1e-12
        )
        comparisons = [
            compare_on_hull(
                reference_set,
                names=formulas,
                formulas=formulas,
                energies=np.array(numbers),
                crystals=formulas,
                competes=np.ones(3, dtype=bool),
                is_reference=np.zeros(3, dtype=bool),
            )
            for reference_set in (small, large)
        ]
        assert comparisons[0][0] == pytest.approx(comparisons[1][0], abs=0)
        assert comparisons[0][1] == comparisons[1][1]

    def test_two_levels_of_theory_are_an_error(self):
        with pytest.raises(ValueError, match=r"CHGNet 0\.3\.0 and PBE\+U"):
            ReferenceSet(entries=(_energy("Mg", "Mg"), _energy("MgO", "MgO", "PBE+U")))

    def test_missing_elemental_phase_is_an_error(self):
        with pytest.raises(ValueError, match="no energy of elemental Mn, O"):
            ReferenceSet(entries=(_energy("Mg", "Mg"), _energy("MnO", "MnO")))

    def test_repeated_phase_is_an_error(self):
        with pytest.raises(ValueError, match="more than one energy of Mg"):
            ReferenceSet(entries=(_energy("Mg", "Mg"), _energy("Mg", "Mg2")))


class TestHull:
    @pytest.mark.parametrize("formula", CHGNET_FORMATION_ENERGIES)
    def test_reference_phases_are_on_the_hull(self, formula: str, chgnet_column: ReferenceSet):
        energy = CHGNET_FORMATION_ENERGIES[formula]
        assert formula in {e.name for e in chgnet_column.phase_diagram.stable_entries}
        assert chgnet_column.energy_above_hull(formula, energy) == pytest.approx(0, abs=1e-9)
        assert chgnet_column.formation_energy_per_atom(formula, energy) == pytest.approx(energy)
        assert chgnet_column.decompositions([formula]) == [pytest.approx({formula: 1})]

    def test_phases_on_the_hull_have_no_distance(self):
        generator = np.random.default_rng(1)
        energies = {entry.formula: generator.normal(-3) for entry in HULL.entries}
        hull = formation_energy_set(energies)
        on_hull = [hull.entries[i] for i in hull.hull.vertices]
        distances = hull.decomposition_energies(
            [entry.formula for entry in on_hull], [entry.energy_per_atom for entry in on_hull]
        )
        assert len(on_hull) > 3
        assert (distances == 0).all()

    def test_distances_beyond_rounding_errors_are_kept(self):
        energy = HULL.hull_energy("MgO")
        assert HULL.decomposition_energy("MgO", energy + 2e-8) == pytest.approx(2e-8)

    def test_unknown_element_is_a_user_error(self, chgnet_column: ReferenceSet):
        with pytest.raises(UserError, match=r"VO2: .* V;"):
            chgnet_column.energy_above_hull("V2O4", -2.0)

    @given(counts=COUNTS, offset=st.floats(-1, 1))
    def test_decomposition_energy_equals_the_offset_from_the_hull(
        self, counts: tuple[int, int, int], offset: float
    ):
        formula = _formula(counts)
        on_hull = -HULL.decomposition_energy(formula, 0.0)
        energy = HULL.decomposition_energy(formula, on_hull + offset)
        assert energy == pytest.approx(offset, abs=1e-8)

    @given(counts=COUNTS)
    def test_decomposition_conserves_atoms_and_energy(self, counts: tuple[int, int, int]):
        composition = Composition(_formula(counts))
        (products,) = HULL.decompositions([composition])
        assert sum(products.values()) == pytest.approx(1)
        for element in composition:
            atoms = sum(
                n * Composition(f).get_atomic_fraction(element) for f, n in products.items()
            )
            assert atoms == pytest.approx(composition.get_atomic_fraction(element))
        energies = CHGNET_FORMATION_ENERGIES | {"Mg": 0.0, "Mn": 0.0, "O2": 0.0}
        energy = sum(n * energies[f] for f, n in products.items())
        assert HULL.decomposition_energy(composition, energy) == pytest.approx(0, abs=1e-8)

    @settings(max_examples=500)
    @given(counts=st.tuples(*[st.integers(0, 12)] * 3).filter(any), energy=st.floats(-5, 1))
    def test_decomposition_energy_agrees_with_pymatgen(
        self, counts: tuple[int, int, int], energy: float
    ):
        composition = Composition(_formula(counts))
        entry = PDEntry(composition, energy * composition.num_atoms)
        expected = DIAGRAM.get_e_above_hull(entry, allow_negative=True)
        assert HULL.decomposition_energy(composition, energy) == pytest.approx(expected, abs=1e-8)

    @settings(max_examples=300)
    @given(
        energies=st.lists(
            st.tuples(st.tuples(*[st.integers(0, 3)] * 4).filter(any), st.integers(-4, 0)),
            max_size=8,
        ),
        counts=st.tuples(*[st.integers(0, 4)] * 4).filter(any),
    )
    def test_decomposition_with_many_phases_on_one_plane(self, energies, counts):
        pure = [(tuple(int(i == k) for i in range(4)), 0) for k in range(4)]
        points = np.array([row for row, _ in pure + energies], dtype=float)
        points /= points.sum(axis=1, keepdims=True)
        heights = np.array([energy for _, energy in pure + energies], dtype=float)
        hull = LowerHull(points, heights)
        composition = np.array([counts], dtype=float) / sum(counts)
        corners, amounts = hull.decompose(composition)
        assert amounts.min() > -1e-9
        assert amounts @ points[corners[0]] == pytest.approx(composition)
        assert amounts[0] @ heights[corners[0]] == pytest.approx(hull.energies_at(composition)[0])

    def test_batch_agrees_with_single_candidates(self):
        formulas = ["MgO", "Mg2Mn3O8", "MnO2", "Mg", "O2", "Mg8Mn8O12"]
        energies = [-3.0, -2.2, -1.7, 0.1, 0.0, -2.0]
        batch = HULL.decomposition_energies(formulas, energies)
        single = [HULL.decomposition_energy(f, e) for f, e in zip(formulas, energies, strict=True)]
        assert batch.tolist() == single

    def test_hulls_of_a_binary_and_an_element(self):
        binary = formation_energy_set({"MnO": -1.968, "MnO2": -1.793})
        assert binary.energy_above_hull("MnO2", -1.793) == pytest.approx(0)
        pure = ReferenceSet(entries=(_energy("Mg hcp", "Mg"),))
        assert pure.energy_above_hull("Mg", -0.4) == pytest.approx(0.6)

    @given(counts=COUNTS, multiple=st.integers(2, 5))
    def test_supercell_has_the_energy_of_its_primitive_cell(
        self, counts: tuple[int, int, int], multiple: int
    ):
        supercell = _formula(tuple(multiple * n for n in counts))
        assert HULL.decomposition_energy(supercell, -2.0) == pytest.approx(
            HULL.decomposition_energy(_formula(counts), -2.0)
        )


class TestChgnet:
    """Energies of CHGNet relaxations, with O2 pinned, compared with published ones.

    The published energy of O2 is that of CHGNet, 0.035 eV/atom above the pinned one.
    """

    @staticmethod
    def _formation_energy(relaxed: ReferenceSet, formula: str) -> float:
        lowest = min(e.energy_per_atom for e in relaxed.entries if e.formula == formula)
        return relaxed.formation_energy_per_atom(formula, lowest)

    @pytest.mark.parametrize("formula", CHGNET_FORMATION_ENERGIES)
    def test_published_energies(self, formula: str, relaxed: ReferenceSet):
        expected = CHGNET_FORMATION_ENERGIES[formula]
        assert self._formation_energy(relaxed, formula) == pytest.approx(expected, abs=0.06)
        shift = 0.0354 * Composition(formula).get_atomic_fraction("O")
        assert self._formation_energy(relaxed, formula) - shift == pytest.approx(expected, abs=0.01)

    @pytest.mark.parametrize("formula", MEASURED_FORMATION_ENERGIES)
    def test_measured_energies(self, formula: str, relaxed: ReferenceSet):
        expected = MEASURED_FORMATION_ENERGIES[formula]
        assert self._formation_energy(relaxed, formula) == pytest.approx(expected, abs=0.08)

    def test_published_vertices_of_the_hull(self, relaxed: ReferenceSet):
        vertices = {entry.composition.reduced_formula for entry in relaxed.entries}
        stable = relaxed.phase_diagram.stable_entries
        assert {e.composition.reduced_formula for e in stable} == vertices
        assert "MnO2 alpha (hollandite)" in {e.name for e in stable}

    def test_pyrolusite_lies_13_mev_above_hollandite(self, relaxed: ReferenceSet):
        (beta,) = (e for e in relaxed.entries if e.name == "MnO2 beta (pyrolusite)")
        above = relaxed.energy_above_hull(beta.formula, beta.energy_per_atom)
        assert above == pytest.approx(0.013, abs=0.003)
