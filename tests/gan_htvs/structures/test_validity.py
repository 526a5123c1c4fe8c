from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from gan_htvs.structures.geometry_limits import GeometryLimits
from gan_htvs.structures.validity import (
    RejectionReason,
    check_geometry,
    possible_cells,
    unphysical_change,
)
from tests.helpers import brucite, crystal, rocksalt_cell


def test_rocksalt_is_valid() -> None:
    assert check_geometry(rocksalt_cell()) is None


def test_close_pair_is_rejected() -> None:
    cell = rocksalt_cell()
    cell.append("O", cell[-1].coords + np.array([0.19, 0, 0]), coords_are_cartesian=True)
    assert check_geometry(cell).reason is RejectionReason.ATOMS_TOO_CLOSE


def test_close_pair_across_the_cell_boundary_is_rejected() -> None:
    cell = Structure(Lattice.cubic(3.5), ["Mg", "O", "O"], [[0.5] * 3, [0, 0, 0.01], [0, 0, 0.95]])
    assert cell.get_distance(1, 2) < 1
    assert check_geometry(cell).reason is RejectionReason.ATOMS_TOO_CLOSE


def test_atom_close_to_its_own_image_is_rejected() -> None:
    cell = Structure(Lattice.from_parameters(5, 5, 5, 90, 90, 11), ["O"], [[0, 0, 0]])
    assert 0.9 < cell.lattice.volume ** (1 / 3) < 5
    assert np.linalg.norm(cell.lattice.matrix[0] - cell.lattice.matrix[1]) < 1
    assert check_geometry(cell).reason is RejectionReason.ATOMS_TOO_CLOSE


def test_minimum_distances_of_pairs_of_elements() -> None:
    cell = rocksalt_cell(length=3.6)
    assert check_geometry(cell) is None
    flaw = check_geometry(cell, pair_distances={("O", "Mg"): 1.85})
    assert flaw.reason is RejectionReason.ATOMS_TOO_CLOSE
    assert flaw.details == "Mg-O 1.8 A is below 1.85 A (geometry.overlap_distances)"
    assert check_geometry(cell, pair_distances={("O", "O"): 2.4}) is None


@pytest.mark.parametrize(
    ("length", "details"),
    [
        (2.0, "1 A^3/atom is below 5.21 (geometry.volume_per_atom)"),
        (12.0, "216 A^3/atom is above 45.6 (geometry.volume_per_atom)"),
    ],
)
def test_unphysical_volume_is_rejected(length: float, details: str) -> None:
    flaw = check_geometry(rocksalt_cell(length=length))
    assert (flaw.reason, flaw.details) == (RejectionReason.BAD_VOLUME, details)


def test_overlapping_metal_atoms_are_rejected() -> None:
    cell = Structure(Lattice.cubic(3), ["Mg", "Mn"], [[0, 0, 0], [1 / 3, 0, 0]])
    assert check_geometry(cell).reason is RejectionReason.ATOMS_TOO_CLOSE


VALID = {
    "hydroxide": brucite(),
    "hydrogen": Structure(Lattice.cubic(3.1), ["H", "H"], [[0, 0, 0], [0.74 / 3.1, 0, 0]]),
    "nitrogen": Structure(Lattice.cubic(3.6), ["N", "N"], [[0, 0, 0], [1.1 / 3.6, 0, 0]]),
    "diamond": crystal("Fd-3m", Lattice.cubic(3.567), C=[0, 0, 0]),
    "beryllium": crystal("P6_3/mmc", Lattice.hexagonal(2.286, 3.584), Be=[1 / 3, 2 / 3, 0.25]),
    "potassium": crystal("Im-3m", Lattice.cubic(5.328), K=[0, 0, 0]),
    "calcium": crystal("Fm-3m", Lattice.cubic(5.588), Ca=[0, 0, 0]),
    "strontium": crystal("Fm-3m", Lattice.cubic(6.085), Sr=[0, 0, 0]),
    "barium": crystal("Im-3m", Lattice.cubic(5.028), Ba=[0, 0, 0]),
    "rubidium": crystal("Im-3m", Lattice.cubic(5.705), Rb=[0, 0, 0]),
    "cesium": crystal("Im-3m", Lattice.cubic(6.141), Cs=[0, 0, 0]),
    "CsPbI3": crystal("Pm-3m", Lattice.cubic(6.29), Cs=[0.5] * 3, Pb=[0, 0, 0], I=[0.5, 0, 0]),
    "CsI": crystal("Pm-3m", Lattice.cubic(4.567), Cs=[0, 0, 0], I=[0.5] * 3),
}
"""Crystals with volumes of 6 to 116 A^3/atom and bonds from 0.74 A."""


@pytest.mark.parametrize("name", VALID)
def test_crystals_of_any_chemistry_are_valid(name: str) -> None:
    assert check_geometry(VALID[name]) is None


def test_limits_of_the_settings() -> None:
    cell = rocksalt_cell()
    assert check_geometry(cell, GeometryLimits(min_distances={"O-Mg": 2.1})) is None
    close = check_geometry(cell, GeometryLimits(min_distances={"O-Mg": 2.2}))
    assert close.reason is RejectionReason.ATOMS_TOO_CLOSE
    assert "below 2.2 A (geometry.min_distances)" in close.details
    dense = check_geometry(cell, GeometryLimits(volume_per_atom=(10, 20)))
    assert dense.reason is RejectionReason.BAD_VOLUME


def test_non_finite_coordinates_are_rejected() -> None:
    cell = Structure(Lattice.cubic(4), ["Mg", "O"], [[0, 0, 0], [np.nan, 0.5, 0.5]])
    assert check_geometry(cell).reason is RejectionReason.NOT_FINITE


@given(st.tuples(*[st.floats(1, 179)] * 3))
def test_possible_cells_obey_the_triangle_rule(angles: tuple[float, float, float]) -> None:
    # Three angles define a parallelepiped if and only if each is less than the sum of the others
    # and their sum is less than 360 degrees.
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


def hydrogen(bond: float) -> Structure:
    """Build a crystal of H2, whose bond is shorter than any distance in an oxide."""
    return Structure(Lattice.cubic(3.1), ["H", "H"], [[0, 0, 0], [bond / 3.1, 0, 0]])


def cesium(length: float) -> Structure:
    return Structure.from_spacegroup("Im-3m", Lattice.cubic(length), ["Cs"], [[0, 0, 0]])


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (cesium(6.14), cesium(6.6)),
        (cesium(6.14), cesium(6.14).get_primitive_structure()),
        (cesium(6.14), cesium(6.14) * (2, 1, 1)),
        (hydrogen(0.74), hydrogen(0.78)),
    ],
)
def test_reference_phases_may_have_any_volume_and_distance(start, end):
    assert unphysical_change(start, end) is None


@pytest.mark.parametrize(
    ("start", "end", "values"),
    [
        (cesium(6.14), cesium(3.0), "volume changed from 116 to 13.5 A^3/atom"),
        (cesium(6.14), cesium(8.0), "volume changed from 116 to 256 A^3/atom"),
        (hydrogen(0.74), hydrogen(0.3), "shortest distance changed from 0.74 to 0.3 A"),
        (hydrogen(0.74), hydrogen(1.55), "shortest distance changed from 0.74 to 1.55 A"),
    ],
)
def test_collapse_and_expansion_are_unphysical(start, end, values):
    reason = unphysical_change(start, end)
    assert values in reason
    assert reason.endswith("by more than a factor of 2")


def test_non_finite_coordinates_are_unphysical():
    end = Structure(Lattice.cubic(4), ["K"], [[np.nan, 0, 0]])
    assert unphysical_change(rocksalt_cell(), end) == "its coordinates are not finite"
