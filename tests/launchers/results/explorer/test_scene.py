from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from launchers.results.explorer.scene import scene_of

ROCK_SALT = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
)


@pytest.fixture
def parts():
    def take(structure):
        return {part["name"]: part["contents"] for part in scene_of(structure)["contents"]}

    return take


def test_atoms_at_faces_are_drawn_at_all_of_them(parts):
    counts = {atoms["tooltip"]: len(atoms["positions"]) for atoms in parts(ROCK_SALT)["atoms"]}
    # 8 corners and 6 faces; 12 edges and the middle.
    assert counts == {"Mg": 14, "O": 13}


@pytest.mark.parametrize("shift", [1e-5, -1e-5, 0.01, -0.01])
def test_atoms_near_faces_are_drawn_at_all_of_them(parts, shift):
    structure = ROCK_SALT.copy()
    structure.translate_sites(range(len(structure)), [shift] * 3)
    counts = {atoms["tooltip"]: len(atoms["positions"]) for atoms in parts(structure)["atoms"]}
    assert counts == {"Mg": 14, "O": 13}


def test_half_bonds_point_to_each_neighbor(parts):
    bonds = [pair for group in parts(ROCK_SALT)["bonds"] for pair in group["positionPairs"]]
    assert len(bonds) == 6 * (14 + 13)
    lengths = np.linalg.norm(np.diff(np.array(bonds), axis=1), axis=2)
    assert lengths == pytest.approx(4.21 / 4)


def test_cell_has_twelve_edges(parts):
    lattice = Lattice.from_parameters(3, 4, 5, 80, 95, 110)
    (edges,) = parts(Structure(lattice, ["O"], [[0.3, 0.4, 0.5]]))["unit_cell"]
    lengths = np.linalg.norm(
        np.diff(np.array(edges["positions"]).reshape(-1, 2, 3), axis=1), axis=2
    )
    assert np.bincount(lengths.ravel().round().astype(int)).tolist() == [0, 0, 0, 4, 4, 4]


def test_sites_are_wrapped_into_the_cell(parts):
    structure = Structure(Lattice.cubic(4), ["O"], [[1.5, -0.5, 0.5]])
    before = structure.copy()
    (atoms,) = parts(structure)["atoms"]
    assert np.allclose(atoms["positions"], [[2, 2, 2]])
    assert structure == before
