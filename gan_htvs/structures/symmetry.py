"""Crystals from space group and asymmetric unit, space groups, and symmetrization, by spglib.

``Structure.from_spacegroup`` takes seconds to generate the operations of a cubic group.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import spglib
from pymatgen.core import Element, Lattice, Structure

from gan_htvs.core.candidate import Symmetry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray


N_HALL_SETTINGS = 530
"""Number of Hall settings of the 230 space groups in spglib."""

SAME_SITE = 0.01
"""Positions within this distance are the same, A."""

ROUNDING = 0.001
"""Displacements up to this, A, are the rounding of coordinates in files."""

SYMPREC = 0.1
"""Tolerance of space groups in emmet-core and the Materials Project, A."""
TIGHT_SYMPREC = 0.01
"""Default tolerance of space groups in pymatgen, A."""
ANGLE_TOLERANCE = 5.0
"""Angle tolerance of space groups in pymatgen and emmet-core, degrees."""


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


def reduction_note(structure: Structure, cell: Structure) -> str:
    """Return a clause on how far a reduction to a primitive cell moved atoms.

    Parameters
    ----------
    structure
        The structure.
    cell
        Its primitive cell, in the same orientation.

    Returns
    -------
    The clause with the largest displacement, A; empty if it is at most :data:`ROUNDING`.
    """
    coords = cell.lattice.get_fractional_coords(structure.cart_coords)
    distances = cell.lattice.get_all_distances(coords, cell.frac_coords)
    same = np.array([[a.species == b.species for b in cell] for a in structure])
    displacement = float(np.where(same, distances, np.inf).min(axis=1).max())
    if displacement <= ROUNDING:
        return ""
    return f"atoms were moved by up to {displacement:.3f} A in the reduction to the primitive cell"


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
    cell = _spglib_cell(structure)
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


class SymmetrizedCopy(NamedTuple):
    """A structure of higher symmetry close to another one.

    Attributes
    ----------
    structure
        The sites of the original, in the same order.
    tolerance
        Tolerance at which the original has this symmetry, A.
    max_displacement
        Largest displacement of an atom relative to the cell and to the mean of all atoms, A.
    """

    structure: Structure
    tolerance: float
    max_displacement: float


def symmetrized_copies(
    structure: Structure, tolerances: Iterable[float]
) -> Iterator[SymmetrizedCopy]:
    """Yield copies of a structure with more symmetry operations, the most symmetric first.

    Parameters
    ----------
    structure
        Any ordered structure.
    tolerances
        Largest distances between an atom and the image of another one, A. They are used from the
        largest to the smallest; those that yield no other symmetry are skipped.
    """
    from ase.spacegroup.symmetrize import refine_symmetry  # noqa: PLC0415 - slow
    from pymatgen.io.ase import AseAtomsAdaptor  # noqa: PLC0415 - slow

    lowest, highest = _degree(structure, TIGHT_SYMPREC), math.inf
    for tolerance in sorted(tolerances, reverse=True):
        degree = _degree(structure, tolerance)
        if not lowest < degree < highest:
            continue
        atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
        try:
            refine_symmetry(atoms, symprec=tolerance)
        # Its errors depend on the versions of ASE and spglib.
        except Exception:  # noqa: BLE001, S112
            continue
        copy = Structure(atoms.cell.array, structure.species, atoms.get_scaled_positions())
        if _degree(copy, TIGHT_SYMPREC) >= degree:
            highest = degree
            yield SymmetrizedCopy(copy, tolerance, _max_displacement(structure, copy))


def _max_displacement(before: Structure, after: Structure) -> float:
    moves = after.frac_coords - before.frac_coords
    moves -= moves.round()
    # The symmetrization fixes an atom, not the center.
    moves = (moves - moves.mean(axis=0)) @ before.lattice.matrix
    return float(np.linalg.norm(moves, axis=1).max())


def _degree(structure: Structure, tolerance: float) -> float:
    """Return the number of symmetry operations of the conventional cell for each of its atoms."""
    dataset = spglib.get_symmetry_dataset(_spglib_cell(structure), symprec=tolerance)
    if dataset is None:
        return 0.0
    operations = spglib.get_symmetry_from_database(dataset.hall_number)
    return len(operations["rotations"]) / len(dataset.std_types)


def _spglib_cell(structure: Structure) -> tuple[NDArray, NDArray, list[int]]:
    numbers = [site.specie.Z for site in structure]
    return structure.lattice.matrix, structure.frac_coords, numbers


def symmetry_of(structure: Structure, symprec: float) -> Symmetry:
    """Return the symmetry of a structure.

    Parameters
    ----------
    structure
        Any periodic structure.
    symprec
        Distance tolerance of spglib, A.

    Returns
    -------
    The symmetry with its tolerances; only these if spglib fails.
    """
    from pymatgen.symmetry.analyzer import (  # noqa: PLC0415 - slow
        SpacegroupAnalyzer,
        SymmetryUndeterminedError,
    )

    symmetry = Symmetry(
        symprec=symprec, angle_tolerance=ANGLE_TOLERANCE, version=spglib.__version__
    )
    try:
        analyzer = SpacegroupAnalyzer(structure, symprec, ANGLE_TOLERANCE)
    except SymmetryUndeterminedError:
        return symmetry
    return symmetry.model_copy(
        update={
            "crystal_system": analyzer.get_crystal_system().title(),
            "symbol": analyzer.get_space_group_symbol(),
            "hall": analyzer.get_hall(),
            "number": analyzer.get_space_group_number(),
            "point_group": analyzer.get_point_group_symbol(),
        }
    )
