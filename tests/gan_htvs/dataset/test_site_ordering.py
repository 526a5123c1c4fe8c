from __future__ import annotations

import numpy as np
from pymatgen.core import Lattice, Structure

from gan_htvs.dataset.site_ordering import (
    all_occupations,
    inequivalent_occupations,
    site_permutations,
)
from gan_htvs.structures.superlattices import inequivalent_superlattices

FCC = Structure(
    Lattice([[0, 2, 2], [2, 0, 2], [2, 2, 0]]), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
)


def test_permutations_form_the_space_group():
    supercell = FCC * (2, 2, 2)
    permutations, is_translation = site_permutations(supercell)
    assert len(permutations) == 48 * 8
    assert is_translation.sum() == 7
    assert (np.sort(permutations, axis=1) == np.arange(len(supercell))).all()


def test_number_of_binary_fcc_superstructures_matches_hart_and_forcade():
    # Hart & Forcade 2008: 2, 6, 19, 28 binary derivatives of fcc with 2 to 5 atoms per cell.
    numbers = []
    for index in range(2, 6):
        n = 0
        for form in inequivalent_superlattices(index, FCC):
            supercell = FCC.copy()
            supercell.make_supercell(form)
            options = [2 if site.specie.symbol == "Na" else 1 for site in supercell]
            indices, _ = inequivalent_occupations(
                all_occupations(options), *site_permutations(supercell)
            )
            n += len(indices)
        numbers.append(n)
    assert numbers == [2, 6, 19, 28]


def test_point_groups_of_layered_orderings():
    orders = []
    for form in inequivalent_superlattices(2, FCC):
        supercell = FCC.copy()
        supercell.make_supercell(form)
        options = [2 if site.specie.symbol == "Na" else 1 for site in supercell]
        _, group_orders = inequivalent_occupations(
            all_occupations(options), *site_permutations(supercell)
        )
        orders += group_orders.tolist()
    # L1_0 (4/mmm) and L1_1 (-3m).
    assert sorted(orders) == [12, 16]


def test_occupations_too_large_for_an_exact_key_stay_distinct():
    random = np.random.default_rng(3)
    occupations = random.integers(6, size=(40, 24)).astype(np.int8)
    identity = np.arange(24)[None]
    swap = identity.copy()
    swap[0, [0, 1]] = [1, 0]
    group = np.concatenate([identity, swap])
    mirrored = occupations[:, swap[0]]
    indices, _ = inequivalent_occupations(
        np.concatenate([occupations, mirrored]), group, np.array([False, False])
    )
    assert indices.tolist() == list(range(40))
