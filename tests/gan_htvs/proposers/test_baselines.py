from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.errors import UserError
from gan_htvs.dataset.decoration import decorate_composition, decorate_prototypes
from gan_htvs.dataset.ions import Ions
from gan_htvs.proposers.baselines import VOLUME_SPREAD, RandomCells, Substitution
from gan_htvs.proposers.sampling import sample
from gan_htvs.structures.matching import structure_matcher
from gan_htvs.structures.random_crystals import (
    compatible_groups,
    shortest_distances,
    symmetric_crystal,
    symmetric_crystals,
)
from gan_htvs.structures.validity import possible_cells
from tests.helpers import MG_MN_O, OXIDATION_STATES, spinel

SPINEL = {"Mg": 2, "Mn": 4, "O": 8}


def test_symmetric_crystals_have_the_requested_atoms():
    crystals = list(islice(symmetric_crystals(SPINEL, np.random.default_rng(0)), 8))
    assert len(crystals) == 8
    for crystal in crystals:
        assert [site.specie.symbol for site in crystal] == ["Mg"] * 2 + ["Mn"] * 4 + ["O"] * 8


def test_compatible_groups_have_fitting_orbits():
    groups = compatible_groups((2, 4, 8))
    assert {1, 2, 227} <= set(groups)  # spinel itself is Fd-3m
    assert 228 not in groups  # the smallest orbit of Fd-3c has four atoms in a primitive cell
    assert 225 in compatible_groups((1, 1))  # rock salt
    assert 194 not in compatible_groups((1, 1))  # hexagonal close packing takes two of each


@pytest.mark.parametrize("number", [14, 15, 38, 43, 139, 166, 216, 227])
def test_symmetric_crystals_are_primitive_in_every_centering(number):
    distances = shortest_distances(SPINEL)
    attempts = [symmetric_crystal(number, SPINEL, distances, seed=seed) for seed in range(3)]
    crystals = [crystal for crystal in attempts if crystal is not None]
    assert crystals
    for crystal in crystals:
        assert crystal.composition.get_el_amt_dict() == SPINEL
        # Orbits may happen to lie on positions of higher symmetry.
        operations = SpacegroupAnalyzer(crystal, symprec=1e-3).get_symmetry_operations()
        assert len(operations) >= N_POINT_OPERATIONS[number]


N_POINT_OPERATIONS = {14: 4, 15: 4, 38: 4, 43: 4, 139: 16, 166: 12, 216: 24, 227: 48}
"""Order of the point group, the number of operations of a primitive cell."""


def test_random_cells_have_typical_volumes_and_uniform_positions():
    cells = list(islice(RandomCells(MG_MN_O).raw_samples((2, 4, 8), np.random.default_rng(0)), 200))
    volumes = np.array([cell.volume / len(cell) for cell in cells]) / 13
    assert 1 - VOLUME_SPREAD <= volumes.min() < 0.85
    assert 1.15 < volumes.max() <= 1 + VOLUME_SPREAD
    assert possible_cells([cell.lattice.parameters for cell in cells]).all()
    coords = np.concatenate([cell.frac_coords for cell in cells])
    np.testing.assert_allclose(coords.mean(axis=0), 0.5, atol=0.02)
    np.testing.assert_allclose(coords.var(axis=0), 1 / 12, atol=0.005)


def test_most_random_cells_are_valid_after_declashing():
    assert sample(RandomCells(MG_MN_O), (2, 4, 8), 20, seed=0).acceptance > 0.8


@pytest.fixture(scope="module")
def substitution() -> Substitution:
    return Substitution(MG_MN_O, OXIDATION_STATES)


def test_substitution_proposes_spinel(substitution):
    result = sample(substitution, (2, 4, 8), 100, seed=0)
    assert any(structure_matcher().fit(spinel(), structure) for structure in result.structures)
    unchanged = np.array([sampled.max_displacement for sampled in result.samples]) < 1e-9
    assert unchanged.mean() > 0.5  # structures without overlaps stay as they are


def test_substitution_is_finite_and_independent_of_the_seed(substitution):
    first, second = (sample(substitution, (1, 2, 4), 1000, seed=seed) for seed in (0, 1))
    assert first.exhausted
    assert len(first.samples) < 1000
    assert first.structures == second.structures


def test_decorations_of_a_composition_equal_those_of_the_dataset(substitution):
    system = ChemicalSystem(caps={"Mg": 2, "O": 2})
    ions = Ions(system, {"Mg": (2, 2), "O": (-2, -2)})
    dataset = decorate_prototypes(ions, max_per_composition=50)
    decorated = decorate_composition(ions, (2, 2))
    labeled = zip(dataset.labels, dataset.structures, strict=True)
    expected = [(name, s) for name, s in labeled if system.counts(s) == (2, 2)]
    assert len(decorated) == len(expected) > 2
    for candidate, (prototype, structure) in zip(decorated, expected, strict=True):
        assert candidate.prototype == prototype
        np.testing.assert_allclose(candidate.structure.frac_coords, structure.frac_coords)


def test_substitution_of_metals_is_a_user_error():
    alloy = ChemicalSystem(caps={"Mg": 2, "Al": 2})
    with pytest.raises(UserError, match="cations and anions"):
        Substitution(alloy, {"Mg": (0, 0), "Al": (0, 0)})
