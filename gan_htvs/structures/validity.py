"""Rejection reasons of generated structures, and geometry checks.

Reference phases are checked by :func:`unphysical_change` instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from gan_htvs.structures.geometry_limits import CHEMISTRY, GeometryLimits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray
    from pymatgen.core import Structure

MIN_EDGE = 1.0
"""Shortest lattice vector of a possible cell, A."""

MIN_DISTANCE = 0.1
"""Shortest distance between two atoms of a structure that can be computed, A."""

MAX_EDGE = 200.0
"""Longest lattice vector of a structure that can be computed, A."""

SEARCH_RADIUS = 2.0
"""Radius of searches for close atoms, A. pymatgen stores the cell in cubes of this size."""

MAX_CHANGE = 2.0
"""Factor by which a relaxation may change volume and shortest distance of a reference phase."""

_MIN_CELL_DETERMINANT = 1e-3
"""Smallest squared volume of the cell with unit edges; 1e-3 is 3 % of the volume of a cube."""


_HALF_TURN = 180.0


class RejectionReason(StrEnum):
    """Reasons for which samples are rejected."""

    NOT_FINITE = "not_finite"
    WRONG_COMPOSITION = "wrong_composition"
    WRONG_ATOM_ROWS = "wrong_atom_rows"
    EMPTY_ELEMENT = "empty_element"
    IMPOSSIBLE_CELL = "impossible_cell"
    BAD_VOLUME = "bad_volume"
    ATOMS_TOO_CLOSE = "atoms_too_close"
    CHARGE_IMBALANCE = "charge_imbalance"
    DUPLICATE = "duplicate"
    KNOWN = "known"
    HIGHER_ENERGY = "higher_energy"
    INCOMPLETE_GROUP = "incomplete_group"


@dataclass(frozen=True)
class GeometryFlaw:
    """Why the geometry of a structure is rejected.

    Attributes
    ----------
    reason
        Category, by which rejections are counted.
    details
        Value, bound and setting of the bound; empty if the reason is complete.
    """

    reason: RejectionReason
    details: str = ""

    def __str__(self) -> str:
        """Format the reason and its details."""
        return f"{self.reason}: {self.details}" if self.details else str(self.reason)


def possible_cells(parameters: ArrayLike) -> NDArray[np.bool_]:
    """Return which lattice parameters define a cell that is not flat.

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
        lengths_ok = (cells[:, :3] > MIN_EDGE).all(axis=1)
        angles_ok = ((cells[:, 3:] > 0) & (cells[:, 3:] < _HALF_TURN)).all(axis=1)
        return lengths_ok & angles_ok & (determinant > _MIN_CELL_DETERMINANT)


def check_geometry(
    structure: Structure,
    limits: GeometryLimits = CHEMISTRY,
    *,
    pair_distances: Mapping[tuple[str, str], float] | None = None,
) -> GeometryFlaw | None:
    """Check distances and volume of a structure, before or after relaxation.

    Distances between atoms include periodic images of the same atom.

    Parameters
    ----------
    structure
        Any periodic structure.
    limits
        Volumes and distances; by default those of the elements.
    pair_distances
        Larger minimum distances for pairs of elements (symbols in any order), A.

    Returns
    -------
    The first flaw, or None for a valid structure.
    """
    if (problem := check_cell(structure)) is not None:
        return GeometryFlaw(problem)
    low, high = limits.volume_range(structure.composition)
    volume = _volume_per_atom(structure)
    if not low <= volume <= high:
        bound = f"below {low:.3g}" if volume < low else f"above {high:.3g}"
        details = f"{volume:.3g} A^3/atom is {bound} (geometry.volume_per_atom)"
        return GeometryFlaw(RejectionReason.BAD_VOLUME, details)
    return _close_pair(structure, limits, pair_distances or {})


def check_cell(structure: Structure) -> RejectionReason | None:
    """Return the rejection reason of a structure that is not finite or has a flat cell, or None."""
    if not _is_finite(structure):
        return RejectionReason.NOT_FINITE
    if not possible_cells([structure.lattice.parameters])[0]:
        return RejectionReason.IMPOSSIBLE_CELL
    return None


def _is_finite(structure: Structure) -> bool:
    numbers = (structure.lattice.matrix, structure.frac_coords)
    return all(np.isfinite(array).all() for array in numbers)


def has_coinciding_atoms(structure: Structure) -> bool:
    """Return whether two atoms are closer than :data:`MIN_DISTANCE`, periodic images included."""
    distances = structure.get_neighbor_list(SEARCH_RADIUS)[3]
    return bool((distances < MIN_DISTANCE).any())


def unphysical_change(start: Structure, end: Structure) -> str | None:
    """Check whether the relaxation of a reference phase changed it by an unphysical amount.

    Reference phases are known crystals, from solid hydrogen to cesium, so the limits for generated
    oxides (:func:`check_geometry`) do not apply. A crystal collapses in a hole of the potential,
    and expands if the potential does not bind its atoms.

    Parameters
    ----------
    start, end
        The phase as published and after relaxation; cell sizes may differ.

    Returns
    -------
    Clause with quantity, values and limit, or None for a physical change.
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
    # The largest nearest-neighbor distance is that of close packing, 2^(1/6) v^(1/3).
    cutoff = 1.13 * _volume_per_atom(structure) ** (1 / 3)
    return float(structure.get_neighbor_list(cutoff)[3].min())


def _close_pair(
    structure: Structure,
    limits: GeometryLimits,
    pair_distances: Mapping[tuple[str, str], float],
) -> GeometryFlaw | None:
    """Return the flaw of the pair that is shortest compared with its bound, or None."""
    symbols, kind = np.unique([site.specie.symbol for site in structure], return_inverse=True)
    bounds = limits.min_distance_table(symbols.tolist())
    asked = np.array([[pair_distances.get((a, b), 0.0) for b in symbols] for a in symbols])
    asked = np.maximum(asked, asked.T)
    is_overlap = asked > bounds
    bounds = np.maximum(bounds, asked)
    center, neighbor, _, distances = structure.get_neighbor_list(float(bounds.max()))
    pairs = kind[center], kind[neighbor]
    ratios = distances / bounds[pairs]
    if not (ratios < 1).any():
        return None
    worst = ratios.argmin()
    i, j = sorted((pairs[0][worst], pairs[1][worst]), key=lambda k: symbols[k])
    details = (
        f"{symbols[i]}-{symbols[j]} {distances[worst]:.3g} A is below {bounds[i, j]:.3g} A "
        f"({'geometry.overlap_distances' if is_overlap[i, j] else 'geometry.min_distances'})"
    )
    return GeometryFlaw(RejectionReason.ATOMS_TOO_CLOSE, details)
