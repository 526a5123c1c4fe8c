from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from gan_htvs.validity import RejectionReason, check_geometry, possible_cells


def rocksalt(a: float = 4.21) -> Structure:
    corners = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    centres = [[0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    return Structure(Lattice.cubic(a), ["Mg"] * 4 + ["O"] * 4, corners + centres)


def test_rocksalt_is_in_order() -> None:
    assert check_geometry(rocksalt()) is None


def test_two_oxygens_at_a_fifth_of_an_angstrom_are_caught() -> None:
    cell = rocksalt()
    cell.append("O", cell[-1].coords + np.array([0.19, 0, 0]), coords_are_cartesian=True)
    assert check_geometry(cell) is RejectionReason.ATOMS_TOO_CLOSE


def test_a_close_pair_across_the_cell_boundary_is_caught() -> None:
    cell = Structure(Lattice.cubic(3.5), ["Mg", "O", "O"], [[0.5] * 3, [0, 0, 0.01], [0, 0, 0.95]])
    assert cell.get_distance(1, 2) < 1
    assert check_geometry(cell) is RejectionReason.ATOMS_TOO_CLOSE


def test_an_atom_too_close_to_its_own_image_is_caught() -> None:
    cell = Structure(Lattice.from_parameters(5, 5, 5, 90, 90, 11), ["O"], [[0, 0, 0]])
    assert 0.9 < cell.lattice.volume ** (1 / 3) < 5
    assert np.linalg.norm(cell.lattice.matrix[0] - cell.lattice.matrix[1]) < 1
    assert check_geometry(cell) is RejectionReason.ATOMS_TOO_CLOSE


def test_pairs_of_elements_can_be_kept_further_apart() -> None:
    cell = rocksalt(3.6)
    assert check_geometry(cell) is None
    assert check_geometry(cell, pair_distances={("O", "Mg"): 1.85}) is (
        RejectionReason.ATOMS_TOO_CLOSE
    )
    assert check_geometry(cell, pair_distances={("O", "O"): 2.4}) is None


@pytest.mark.parametrize("a", [2.0, 12.0])
def test_absurd_densities_are_refused(a: float) -> None:
    assert check_geometry(rocksalt(a)) is RejectionReason.BAD_VOLUME


def test_nan_is_refused() -> None:
    cell = Structure(Lattice.cubic(4), ["Mg", "O"], [[0, 0, 0], [np.nan, 0.5, 0.5]])
    assert check_geometry(cell) is RejectionReason.NOT_FINITE


@given(st.tuples(*[st.floats(1, 179)] * 3))
def test_possible_cells_agrees_with_the_triangle_rule(angles: tuple[float, float, float]) -> None:
    # Three angles close a parallelepiped if and only if each is below the sum of the others and
    # all three stay below a full turn.
    slack = min(360 - sum(angles), *(sum(angles) - 2 * angle for angle in angles))
    possible = bool(possible_cells([(5, 5, 5, *angles)])[0])
    if possible:
        assert slack > 0
        assert Lattice.from_parameters(5, 5, 5, *angles).volume > 0.03 * 125
    if slack <= 0:
        assert not possible


def test_vanishing_and_nan_parameters_are_impossible() -> None:
    cells = [(0, 5, 5, 90, 90, 90), (np.nan, 5, 5, 90, 90, 90), (5, 5, 5, 90, 90, 90)]
    assert possible_cells(cells).tolist() == [False, False, True]
