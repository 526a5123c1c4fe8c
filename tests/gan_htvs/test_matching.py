from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.matching import UniqueStructures, structure_matcher, unique_indices


def rocksalt(a: float = 4.21, cation: str = "Mg") -> Structure:
    corners = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    centres = [[0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    return Structure(Lattice.cubic(a), [cation] * 4 + ["O"] * 4, corners + centres)


def caesium_chloride() -> Structure:
    return Structure(Lattice.cubic(2.7), ["Mg", "O"], [[0] * 3, [0.5] * 3])


@pytest.fixture(scope="module")
def mixed() -> list[Structure]:
    """Rocksalt and CsCl MgO in many guises, and MnO."""
    shifted = rocksalt(4.4)
    shifted.translate_sites(list(range(len(shifted))), [0.13, 0.27, 0.41])
    noisy = rocksalt()
    noisy.perturb(0.05)
    return [
        rocksalt(),
        caesium_chloride(),
        shifted,
        rocksalt().get_primitive_structure(),
        rocksalt(4.4, "Mn"),
        caesium_chloride() * [2, 1, 1],
        noisy,
        rocksalt(4.5, "Mn"),
    ]


def test_the_first_of_each_group_is_kept(mixed: list[Structure]) -> None:
    assert unique_indices(mixed) == [0, 1, 4]


def test_groups_are_those_of_the_matcher_without_buckets(mixed: list[Structure]) -> None:
    matcher = structure_matcher()
    firsts = [
        i
        for i, structure in enumerate(mixed)
        if not any(matcher.fit(structure, mixed[j]) for j in range(i))
    ]
    assert unique_indices(mixed) == firsts


def test_known_structures_count_as_seen() -> None:
    unique = UniqueStructures([rocksalt()])
    assert not unique.add(rocksalt(4.3))
    assert unique.add(caesium_chloride())
    assert not unique.add(caesium_chloride())


def test_nothing_gives_nothing() -> None:
    assert unique_indices([]) == []


def test_random_arrangements_are_all_different() -> None:
    rng = np.random.default_rng(0)
    cells = [
        Structure(Lattice.cubic(5), ["Mg", "Mg", "O", "O", "O"], rng.random((5, 3)))
        for _ in range(4)
    ]
    assert unique_indices(cells + cells) == [0, 1, 2, 3]
