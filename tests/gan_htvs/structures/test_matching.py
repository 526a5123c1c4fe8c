from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from gan_htvs.structures.matching import (
    StructureIndex,
    UniqueStructures,
    duplicates_of_one_phase,
    group_structures,
    structure_matcher,
    unique_indices,
)
from tests.helpers import cesium_chloride, rocksalt_cell


def rutile(x: float = 0.305) -> Structure:
    cell = Lattice.tetragonal(4.4, 2.87)
    return Structure.from_spacegroup(136, cell, ["Mn", "O"], [[0, 0, 0], [x, x, 0]])


def random_structure(rng: np.random.Generator, counts: tuple[int, ...]) -> Structure:
    """Atoms random_structure in a cell of any shape."""
    cell = Lattice.from_parameters(*rng.uniform(0.7, 1.4, 3), *rng.uniform(65, 115, 3))
    symbols = np.repeat(["Mg", "Mn", "O"][: len(counts)], counts)
    n = len(symbols)
    return Structure(cell.scale(11 * n), symbols.tolist(), rng.random((n, 3)))


def disguised(structure: Structure, rng: np.random.Generator, noise: float) -> Structure:
    """Change cell, origin and volume; add noise (A) to positions and a tenth of it to lengths."""
    other = structure.copy()
    other.apply_strain(rng.uniform(-noise / 10, noise / 10, 3))
    other.scale_lattice(other.volume * rng.uniform(0.8, 1.3))
    cart = other.cart_coords + rng.normal(0, noise, (len(other), 3)) + rng.random(3)
    other = Structure(other.lattice, other.species, cart, coords_are_cartesian=True)
    cells = [[[1, 1, 0], [0, 1, 0], [0, 1, 1]], [[0, 1, 0], [1, 0, 1], [1, 0, 0]], [2, 1, 1]]
    return other.make_supercell(cells[rng.integers(3)])


def groups_by_matcher(structures: list[Structure]) -> list[list[int]]:
    index = {id(structure): i for i, structure in enumerate(structures)}
    groups = structure_matcher().group_structures(structures)
    return sorted([index[id(member)] for member in group] for group in groups)


@pytest.fixture(scope="module")
def mixed() -> list[Structure]:
    """Rocksalt and CsCl MgO in various settings, and MnO."""
    shifted = rocksalt_cell(length=4.4)
    shifted.translate_sites(list(range(len(shifted))), [0.13, 0.27, 0.41])
    noisy = rocksalt_cell()
    noisy.perturb(0.05, seed=0)
    return [
        rocksalt_cell(),
        cesium_chloride(),
        shifted,
        rocksalt_cell().get_primitive_structure(),
        rocksalt_cell("Mn", 4.4),
        cesium_chloride() * [2, 1, 1],
        noisy,
        rocksalt_cell("Mn", 4.5),
    ]


def test_unique_indices_are_the_first_of_each_group(mixed: list[Structure]) -> None:
    assert unique_indices(mixed) == [0, 1, 4]


def test_groups_are_those_of_the_matcher(mixed: list[Structure]) -> None:
    assert group_structures(mixed) == [[0, 2, 3, 6], [1, 5], [4, 7]]
    assert group_structures(mixed) == groups_by_matcher(mixed)


@pytest.mark.parametrize("noise", [0.05, 0.3, 0.6])
@pytest.mark.parametrize(
    "parents",
    [
        [rocksalt_cell(), cesium_chloride()],
        [rutile(), rutile(0.25), rutile(0.36)],
        [random_structure(np.random.default_rng(i), (1, 1, 2)) for i in range(4)],
    ],
    ids=["MgO", "MnO2", "random_structure"],
)
def test_groups_of_noisy_structures_are_those_of_the_matcher(
    parents: list[Structure], noise: float
) -> None:
    rng = np.random.default_rng(0)
    structures = [disguised(parent, rng, noise) for parent in parents for _ in range(5)]
    assert group_structures(structures) == groups_by_matcher(structures)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    counts=st.sampled_from([(1, 1), (2, 1), (1, 1, 1), (1, 2, 2), (2, 2)]),
    noise=st.floats(0, 0.8),
)
def test_groups_of_random_cells_are_those_of_the_matcher(
    seed: int, counts: tuple[int, ...], noise: float
) -> None:
    rng = np.random.default_rng(seed)
    parents = [random_structure(rng, counts) for _ in range(6)]
    structures = parents + [disguised(parent, rng, noise) for parent in parents]
    assert group_structures(structures) == groups_by_matcher(structures)


def test_groups_of_needles_and_plates() -> None:
    rng = np.random.default_rng(3)
    shapes = [(2.1, 2.3, 25.0), (2.2, 2.2, 25.5), (2.3, 14.0, 15.0), (2.3, 14.5, 15.0)]
    symbols, coords = ["Mg", "Mn", "O", "O"], rng.random((4, 3))
    structures = [Structure(Lattice.orthorhombic(*shape), symbols, coords) for shape in shapes]
    structures += [disguised(structure, rng, 0.02) for structure in structures]
    groups = group_structures(structures)
    assert groups == groups_by_matcher(structures)
    assert groups == [[0, 1, 4, 5], [2, 3, 6, 7]]


def test_matching_structures_are_not_added() -> None:
    unique = UniqueStructures()
    assert unique.add(rocksalt_cell())
    assert not unique.add(rocksalt_cell(length=4.3))
    assert unique.add(cesium_chloride())
    assert not unique.add(cesium_chloride())
    assert len(unique) == 2


def test_positions_of_matches(mixed: list[Structure]) -> None:
    index = StructureIndex(mixed)
    assert len(index) == len(mixed)
    assert list(index.positions(rocksalt_cell(length=4.0))) == [0, 2, 3, 6]
    assert index.first(cesium_chloride()) == 1
    assert index.first(rutile()) is None
    assert list(index.positions(rutile())) == []


def test_empty_input() -> None:
    assert unique_indices([]) == []
    assert group_structures([]) == []


def test_random_structures_are_unique() -> None:
    rng = np.random.default_rng(0)
    cells = [
        Structure(Lattice.cubic(5), ["Mg", "Mg", "O", "O", "O"], rng.random((5, 3)))
        for _ in range(4)
    ]
    assert unique_indices(cells + cells) == [0, 1, 2, 3]


def perovskite(angle: float = 0.0) -> Structure:
    """SrTiO3 with octahedra tilted about c by ``angle`` (degrees): I4/mcm, cubic without tilt."""
    u = 0.25 * (1 - np.tan(np.radians(angle)))
    return Structure.from_spacegroup(
        "I4/mcm",
        Lattice.tetragonal(3.905 * 2**0.5, 7.81),
        ["Sr", "Ti", "O", "O"],
        [[0, 0.5, 0.25], [0, 0, 0], [0, 0, 0.25], [u, u + 0.5, 0]],
    )


def test_small_distortions_are_phases_of_their_own():
    cubic, tilted = perovskite(), perovskite(2.0)
    assert unique_indices([cubic, tilted]) == [0]
    assert duplicates_of_one_phase([cubic, tilted]) == {}
    assert duplicates_of_one_phase([tilted, cubic, perovskite(3.0)]).keys() == {2}


def test_cells_of_one_phase_are_duplicates_with_their_displacement():
    first, second = rutile(), rutile(0.310)
    second.scale_lattice(1.1 * second.volume)
    duplicates = duplicates_of_one_phase([first, perovskite(), second * (1, 1, 2), first])
    assert {i: duplicate.first for i, duplicate in duplicates.items()} == {2: 0, 3: 0}
    # Four of six atoms are 0.005 a along both axes apart, at the mean of both volumes.
    apart = 0.005 * 2**0.5 * 4.4 * 1.05 ** (1 / 3) * (4 / 6) ** 0.5
    assert duplicates[2].displacement == pytest.approx(apart, rel=1e-3)
    assert duplicates[3].displacement == pytest.approx(0.0, abs=1e-6)


def test_crystals_without_symmetry_are_compared_by_their_atoms():
    structure = random_structure(np.random.default_rng(3), (2, 3, 4))
    moved = structure.copy()
    moved.translate_sites([0], [0.0, 0.0, 0.09], frac_coords=False)
    (duplicate,) = duplicates_of_one_phase([structure, moved]).values()
    # One of nine atoms, relative to the mean displacement of all.
    assert duplicate.displacement == pytest.approx(0.09 * (1 / 9 * 8 / 9) ** 0.5, rel=0.01)
