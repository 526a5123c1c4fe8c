from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.generator.augmentation import all_supercells
from gan_htvs.structures.matching import structure_matcher
from gan_htvs.structures.point_cloud import decode, encode
from tests.helpers import MG_MN_O, layered


def decoded(images: np.ndarray, system: ChemicalSystem = MG_MN_O) -> list[Structure]:
    structures = decode(images, system).to_structures()
    assert all(isinstance(structure, Structure) for structure in structures)
    return structures  # type: ignore[return-value]


def test_all_multiples_within_the_caps_are_built() -> None:
    images, counts, parents = all_supercells(
        encode([layered()], MG_MN_O), np.array([[1, 1, 2]]), MG_MN_O
    )
    # Ordered factorizations of 1 to 6 into three: 1 + 3 + 3 + 6 + 3 + 9.
    assert len(images) == 25
    assert parents.tolist() == [0] * 25
    assert counts.tolist()[0] == [1, 1, 2]
    assert np.unique(counts[:, 0], return_counts=True)[1].tolist() == [1, 3, 3, 6, 3, 9]


def test_supercells_equal_those_of_pymatgen_and_match_the_parent() -> None:
    parent = layered()
    images, counts, _ = all_supercells(encode([parent], MG_MN_O), np.array([[1, 1, 2]]), MG_MN_O)
    matcher = structure_matcher()
    for structure, n in zip(decoded(images), counts, strict=True):
        assert MG_MN_O.counts(structure) == tuple(n)
        multiples = np.round(np.array(structure.lattice.abc) / parent.lattice.abc).astype(int)
        expected = parent.copy().make_supercell(multiples)
        for symbol in MG_MN_O.elements:
            coords, expected_coords = (
                np.array([site.frac_coords for site in cell if site.specie.symbol == symbol])
                for cell in (structure, expected)
            )
            difference = coords[:, None] - expected_coords[None]
            distance = np.abs(difference - np.round(difference)).max(axis=2)
            assert (distance.min(axis=0) < 1e-5).all()
            assert (distance.min(axis=1) < 1e-5).all()
        assert matcher.fit(parent, structure)


def test_scrambled_species_of_the_published_array_do_not_match_the_parent() -> None:
    parent = layered()
    # ASE repeats the cell as a whole: Mg Mn O O Mg Mn O O.
    repeated = AseAtomsAdaptor.get_atoms(parent).repeat((2, 1, 1))
    scrambled = Structure(
        repeated.cell[:], ["Mg"] * 2 + ["Mn"] * 2 + ["O"] * 4, repeated.get_scaled_positions()
    )
    images, counts, _ = all_supercells(encode([parent], MG_MN_O), np.array([[1, 1, 2]]), MG_MN_O)
    doubled = decoded(images[counts[:, 0] == 2])
    matcher = structure_matcher()
    assert not matcher.fit(parent, scrambled)
    assert len(doubled) == 3
    assert all(matcher.fit(parent, structure) for structure in doubled)


def test_lattice_vectors_stay_below_30_angstrom() -> None:
    long = Structure(Lattice.orthorhombic(4, 5, 11), ["Mg", "Mn", "O"], np.eye(3) * 0.3)
    images, _, _ = all_supercells(encode([long], MG_MN_O), np.array([[1, 1, 1]]), MG_MN_O)
    assert images[:, 0].max() <= 1
    assert np.unique(np.round(images[:, 0, 2] * 30)).tolist() == [11, 22]


def test_cell_at_the_caps_has_no_supercells() -> None:
    system = ChemicalSystem(caps={"Mg": 1, "Mn": 8, "O": 12})
    images = encode([layered()], system)
    larger, counts, parents = all_supercells(images, np.array([[1, 1, 2]]), system)
    np.testing.assert_array_equal(larger, images)
    assert counts.tolist() == [[1, 1, 2]]
    assert parents.tolist() == [0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), counts=st.tuples(*[st.integers(1, 3)] * 3))
def test_supercells_keep_density_and_padding(seed: int, counts: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    cell = Structure(
        Lattice.from_parameters(*rng.uniform(3, 8, 3), *rng.uniform(70, 110, 3)),
        np.repeat(MG_MN_O.elements, counts).tolist(),
        rng.random((sum(counts), 3)),
    )
    images, all_counts, _ = all_supercells(encode([cell], MG_MN_O), np.array([counts]), MG_MN_O)
    cells = decode(images, MG_MN_O)
    np.testing.assert_array_equal(cells.counts, all_counts)
    for structure in decoded(images):
        assert structure.density == pytest.approx(cell.density, rel=1e-4)
