"""Why a generated structure is thrown away, and the geometric checks that decide it.

Reference phases are not generated: they have a check of their own, :func:`unphysical_change`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray
    from pymatgen.core import Structure

MIN_DISTANCE = 1.0
"""No two atoms of an oxide come closer, A; potentials have holes below it."""

VOLUME_RANGE = (5.0, 40.0)
"""Smallest and largest volume accepted, A^3/atom; Mg-Mn-O oxides have 9 to 16."""

MAX_CHANGE = 2.0
"""Factor by which a relaxation may change volume and shortest distance of a reference phase."""

_MIN_CELL_DETERMINANT = 1e-3
"""Squared volume of the unit-edge cell below which it is flat: 1e-3 is 3 % of a cube."""


_HALF_TURN = 180.0


class RejectionReason(StrEnum):
    """Why a sample does not go on."""

    NOT_FINITE = "not_finite"
    WRONG_COMPOSITION = "wrong_composition"
    WRONG_ATOM_ROWS = "wrong_atom_rows"
    EMPTY_ELEMENT = "empty_element"
    IMPOSSIBLE_CELL = "impossible_cell"
    BAD_VOLUME = "bad_volume"
    ATOMS_TOO_CLOSE = "atoms_too_close"
    CHARGE_IMBALANCE = "charge_imbalance"
    DUPLICATE = "duplicate"


def possible_cells(parameters: ArrayLike) -> NDArray[np.bool_]:
    """Tell which lattice parameters close a parallelepiped that is not flat.

    Parameters
    ----------
    parameters
        (n, 6): a, b, c in A, alpha, beta, gamma in degrees.

    Returns
    -------
    Mask of shape (n,).
    """
    cells = np.asarray(parameters, dtype=float)
    with np.errstate(invalid="ignore"):
        cosines = np.cos(np.radians(cells[:, 3:]))
        determinant = 1 - (cosines**2).sum(axis=1) + 2 * cosines.prod(axis=1)
        lengths_ok = (cells[:, :3] > MIN_DISTANCE).all(axis=1)
        angles_ok = ((cells[:, 3:] > 0) & (cells[:, 3:] < _HALF_TURN)).all(axis=1)
        return lengths_ok & angles_ok & (determinant > _MIN_CELL_DETERMINANT)


def check_geometry(
    structure: Structure,
    *,
    pair_distances: Mapping[tuple[str, str], float] | None = None,
) -> RejectionReason | None:
    """Find the first geometric reason against a structure, before or after relaxation.

    No two atoms may come closer than ``MIN_DISTANCE``, periodic images of one and the same atom
    included, and the volume per atom must lie within ``VOLUME_RANGE``.

    Parameters
    ----------
    structure
        Any periodic structure.
    pair_distances
        Larger shortest distances for pairs of elements (symbols in either order), A.

    Returns
    -------
    The reason, or None for a structure in order.
    """
    if (problem := check_cell(structure)) is not None:
        return problem
    low, high = VOLUME_RANGE
    if not low <= structure.volume / len(structure) <= high:
        return RejectionReason.BAD_VOLUME
    if _has_close_pair(structure, pair_distances or {}):
        return RejectionReason.ATOMS_TOO_CLOSE
    return None


def check_cell(structure: Structure) -> RejectionReason | None:
    """Return why a cell cannot be computed with, if its numbers are not finite or it is flat."""
    if not _is_finite(structure):
        return RejectionReason.NOT_FINITE
    if not possible_cells([structure.lattice.parameters])[0]:
        return RejectionReason.IMPOSSIBLE_CELL
    return None


def _is_finite(structure: Structure) -> bool:
    numbers = (structure.lattice.matrix, structure.frac_coords)
    return all(np.isfinite(array).all() for array in numbers)


def unphysical_change(start: Structure, end: Structure) -> str | None:
    """Return how the relaxation of a reference phase changed it beyond belief, if it did.

    Reference phases are crystals that exist, from solid hydrogen to caesium, so the limits for
    generated oxides (:func:`check_geometry`) do not apply. Where the potential has a hole, atoms
    collapse, and where it does not bind them, they fly apart.

    Parameters
    ----------
    start, end
        The phase as published and after relaxation; the cells may differ in size.

    Returns
    -------
    Clause with quantity, values and bound, or None for a believable relaxation.
    """
    if not _is_finite(end):
        return "its coordinates are not finite"
    for quantity, unit, measure in (
        ("volume", "A^3/atom", _volume_per_atom),
        ("shortest distance", "A", _shortest_distance),
    ):
        before, after = measure(start), measure(end)
        if not before / MAX_CHANGE <= after <= before * MAX_CHANGE:
            return (
                f"its {quantity} changed from {before:.3g} to {after:.3g} {unit}, by more than a "
                f"factor of {MAX_CHANGE:g}"
            )
    return None


def _volume_per_atom(structure: Structure) -> float:
    return structure.volume / len(structure)


def _shortest_distance(structure: Structure) -> float:
    """Return the shortest distance between two atoms, periodic images included, in A."""
    # Nearest neighbors are farthest apart in the closest packing, at 2^(1/6) v^(1/3).
    cutoff = 1.13 * _volume_per_atom(structure) ** (1 / 3)
    return float(structure.get_neighbor_list(cutoff)[3].min())


def _has_close_pair(structure: Structure, pair_distances: Mapping[tuple[str, str], float]) -> bool:
    cutoff = max([MIN_DISTANCE, *pair_distances.values()])
    center, neighbor, _, distance = structure.get_neighbor_list(float(cutoff))
    if not pair_distances:
        return bool((distance < MIN_DISTANCE).any())
    symbols = [site.specie.symbol for site in structure]
    # The list holds each pair in both orders.
    allowed = [
        max(MIN_DISTANCE, pair_distances.get((symbols[i], symbols[j]), 0.0))
        for i, j in zip(center, neighbor, strict=True)
    ]
    return bool((distance < allowed).any())
