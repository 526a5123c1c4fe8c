"""Crystals from space group and asymmetric unit, and symmetrization of structures, by spglib.

``Structure.from_spacegroup`` takes seconds to generate the operations of a cubic group.
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
"""Number of Hall settings of the 230 space groups in spglib."""

SAME_SITE = 0.01
"""Positions within this distance are the same, A."""

SYMMETRY_TOLERANCE = 0.1
"""Tolerance of the space groups of candidates, A, as in the Materials Project."""


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
        origin choice 1.
    lattice
        Lattice of the conventional cell, A.
    sites
        Symbol and fractional coordinates of one atom of each orbit.

    Raises
    ------
    KeyError
        If the space group does not exist.
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
    return primitive_cell(structure)


def primitive_cell(structure: Structure) -> Structure:
    """Return the primitive cell, whose translations map atoms within :data:`SAME_SITE`.

    With the default of pymatgen, 0.25 A, a crystal with tilted octahedra or small displacements
    is averaged to another one of higher symmetry.
    """
    return structure.get_primitive_structure(tolerance=SAME_SITE)


def without_properties(structure: Structure) -> Structure:
    """Return a structure without site properties, oxidation states and isotopes of hydrogen."""
    copy = Structure(structure.lattice, structure.species_and_occu, structure.frac_coords)
    copy.remove_oxidation_states()
    # pymatgen warns of species that are not in the structure.
    isotopes = {"D", "T"}.intersection(copy.symbol_set)
    copy.replace_species(dict.fromkeys(isotopes, "H"), in_place=True)
    return copy


@cache
def _hall_numbers() -> dict[str | int, int]:
    """Map symbol and number of each space group to its first Hall setting in spglib."""
    numbers: dict[str | int, int] = {}
    for hall_number in range(1, N_HALL_SETTINGS + 1):
        kind = spglib.get_spacegroup_type(hall_number)
        numbers.setdefault(kind.international_short, hall_number)
        numbers.setdefault(kind.number, hall_number)
    return numbers


def space_group_number(structure: Structure) -> int:
    """Return the number of the space group of a crystal, within :data:`SYMMETRY_TOLERANCE`."""
    _, number = structure.get_space_group_info(symprec=SYMMETRY_TOLERANCE)
    return int(number)


def symmetrize(structure: Structure, tolerance: float) -> Structure:
    """Move the atoms of a nearly symmetric structure to their symmetric positions.

    Parameters
    ----------
    structure
        Any periodic structure without site properties.
    tolerance
        Largest distance of an atom from its symmetric position, A; 0: no symmetrization.

    Returns
    -------
    Primitive cell of the symmetrized crystal, or the unchanged structure if it has no symmetry
    besides lattice translations.
    """
    if not tolerance:
        return structure
    numbers = [site.specie.Z for site in structure]
    cell = (structure.lattice.matrix, structure.frac_coords, numbers)
    dataset = spglib.get_symmetry_dataset(cell, symprec=tolerance)
    if dataset is None or len(dataset.rotations) == 1:
        return structure
    standardized = spglib.standardize_cell(
        cell, to_primitive=True, no_idealize=False, symprec=tolerance
    )
    if standardized is None or len(structure) % len(standardized[2]):
        return structure
    matrix, coords, kinds = standardized
    ideal = Structure(Lattice(matrix), [Element.from_Z(int(z)) for z in kinds], coords)
    if ideal.composition.reduced_formula != structure.composition.reduced_formula:
        return structure
    order = list(dict.fromkeys(structure.species))
    return ideal.get_sorted_structure(key=lambda site: order.index(site.specie))
