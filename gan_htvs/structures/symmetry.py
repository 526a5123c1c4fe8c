"""Crystals from a space group and an asymmetric unit, by spglib's table of operations.

``Structure.from_spacegroup`` does the same, but takes seconds to generate a cubic group.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import spglib
from pymatgen.core import Element, Lattice, Structure

if TYPE_CHECKING:
    from collections.abc import Sequence


N_HALL_SETTINGS = 530
"""Settings of the 230 space groups in the database of spglib."""

SAME_SITE = 0.01
"""Images of a position that are this close are one site, A."""


def primitive_crystal(
    space_group: str | int,
    lattice: Lattice,
    sites: Sequence[tuple[str, float, float, float]],
) -> Structure:
    """Expand an asymmetric unit and reduce the result to a primitive cell.

    Parameters
    ----------
    space_group
        International short symbol or number. Standard setting: unique axis b, hexagonal axes,
        and origin choice 1 where there are two.
    lattice
        Of the conventional cell, A.
    sites
        Symbol and fractional coordinates of one atom of each orbit.

    Raises
    ------
    KeyError
        If there is no such space group.
    """
    operations = spglib.get_symmetry_from_database(_hall_numbers()[space_group])
    species: list[str] = []
    coords = []
    for symbol, *position in sites:
        images = operations["rotations"] @ np.array(position) + operations["translations"]
        species += [symbol] * len(images)
        coords.append(images % 1.0)
    structure = Structure(lattice, species, np.concatenate(coords))
    structure.merge_sites(tol=SAME_SITE, mode="delete")
    return structure.get_primitive_structure()


@cache
def _hall_numbers() -> dict[str | int, int]:
    """Symbol and number of each space group -> the setting that spglib lists first."""
    numbers: dict[str | int, int] = {}
    for hall_number in range(1, N_HALL_SETTINGS + 1):
        kind = spglib.get_spacegroup_type(hall_number)
        numbers.setdefault(kind.international_short, hall_number)
        numbers.setdefault(kind.number, hall_number)
    return numbers


def symmetrize(structure: Structure, tolerance: float) -> Structure:
    """Put the atoms of a near-symmetric structure where its symmetry wants them.

    Parameters
    ----------
    structure
        Any periodic structure without site properties.
    tolerance
        How far an atom may be from there, A; 0 leaves everything as it is.

    Returns
    -------
    The primitive cell of the symmetrized crystal, or the structure itself where there is no
    symmetry but that of its lattice.
    """
    if not tolerance:
        return structure
    numbers = [site.specie.Z for site in structure]
    cell = (structure.lattice.matrix, structure.frac_coords, numbers)
    dataset = spglib.get_symmetry_dataset(cell, symprec=tolerance)
    if dataset is None or len(dataset.rotations) == 1:
        return structure
    found = spglib.standardize_cell(cell, to_primitive=True, no_idealize=False, symprec=tolerance)
    if found is None or len(structure) % len(found[2]):
        return structure
    matrix, coords, kinds = found
    ideal = Structure(Lattice(matrix), [Element.from_Z(int(z)) for z in kinds], coords)
    if ideal.composition.reduced_formula != structure.composition.reduced_formula:
        return structure
    order = list(dict.fromkeys(structure.species))
    return ideal.get_sorted_structure(key=lambda site: order.index(site.specie))
