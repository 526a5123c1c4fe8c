"""Comparison of structures with pymatgen's StructureMatcher, filtered by fingerprints."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from pymatgen.analysis.structure_matcher import StructureMatcher

from gan_htvs.structures.fingerprint import (
    ANGLE_TOLERANCE,
    LENGTH_TOLERANCE,
    SITE_TOLERANCE,
    Fingerprint,
    Formula,
    possible_matches,
)
from gan_htvs.structures.symmetry import TIGHT_SYMPREC, primitive_cell, symmetry_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pymatgen.core import Structure


def structure_matcher(*, primitive_cell: bool = True) -> StructureMatcher:
    """Build the matcher of this project: primitive cells, scaled volumes.

    The reduction to primitive cells averages distortions of up to 0.25 A; without it, the cells
    are compared as they are.
    """
    return StructureMatcher(
        ltol=LENGTH_TOLERANCE,
        stol=SITE_TOLERANCE,
        angle_tol=ANGLE_TOLERANCE,
        primitive_cell=primitive_cell,
        scale=True,
    )


class StructureIndex:
    """Index of structures for the search of matches.

    Each structure is reduced once, and the matcher compares only pairs whose fingerprints may
    match.

    Parameters
    ----------
    structures
        Structures in the order of their positions, counted from 0.
    """

    def __init__(self, structures: Iterable[Structure] = ()) -> None:
        self._matcher = structure_matcher()
        self._tables: dict[Formula, list[Fingerprint]] = defaultdict(list)
        self._positions: dict[Formula, list[int]] = defaultdict(list)
        for structure in structures:
            self.append(Fingerprint.from_structure(structure))

    def __len__(self) -> int:
        return sum(map(len, self._positions.values()))

    def first(self, structure: Structure | Fingerprint) -> int | None:
        """Return the position of the first match, or None."""
        return next(self.positions(structure), None)

    def positions(self, structure: Structure | Fingerprint) -> Iterator[int]:
        """Yield the positions of all matches, ascending."""
        new = _fingerprint(structure)
        table = self._tables[new.formula]
        for i in possible_matches(table, new):
            old = table[i].structure
            if self._matcher.fit(old, new.structure, skip_structure_reduction=True):
                yield self._positions[new.formula][i]

    def append(self, fingerprint: Fingerprint) -> None:
        """Add a structure, whether or not it matches."""
        self._tables[fingerprint.formula].append(fingerprint)
        self._positions[fingerprint.formula].append(len(self))


class UniqueStructures(StructureIndex):
    """Growing index in which no two structures match."""

    def add(self, structure: Structure) -> bool:
        """Add a structure unless it matches an earlier one; return whether it was added."""
        before = len(self)
        return self.place(structure) == before

    def place(self, structure: Structure | Fingerprint) -> int:
        """Add a structure unless it matches; return its position or that of the match."""
        fingerprint = _fingerprint(structure)
        position = self.first(fingerprint)
        if position is None:
            position = len(self)
            self.append(fingerprint)
        return position


class NamedCrystals:
    """Growing index of crystals, each with the name of its first structure."""

    def __init__(self) -> None:
        self._unique = UniqueStructures()
        self._names: dict[int, str] = {}

    def match(self, name: str, structure: Structure) -> str | None:
        """Add a structure; return the name of the first match, or None for a new crystal."""
        first = self._names.setdefault(self._unique.place(structure), name)
        return None if first == name else first


def _fingerprint(structure: Structure | Fingerprint) -> Fingerprint:
    return (
        structure if isinstance(structure, Fingerprint) else Fingerprint.from_structure(structure)
    )


def group_structures(structures: Iterable[Structure | Fingerprint]) -> list[list[int]]:
    """Group matching structures, as ``StructureMatcher.group_structures`` does.

    Returns
    -------
    Indices of ``structures``, ascending within groups; groups in the order of their first members.
    """
    unique = UniqueStructures()
    groups: dict[int, list[int]] = defaultdict(list)
    for i, structure in enumerate(structures):
        groups[unique.place(structure)].append(i)
    return list(groups.values())


def unique_indices(structures: Iterable[Structure]) -> list[int]:
    """Return the index of the first structure of each group of matches, ascending."""
    return [group[0] for group in group_structures(structures)]


class Duplicate(NamedTuple):
    """A structure that is the same crystal as an earlier one.

    Attributes
    ----------
    first
        Index of the earlier structure.
    displacement
        Root mean square of the distances of matching atoms at equal volume, A.
    """

    first: int
    displacement: float


def duplicates_of_one_phase(structures: Iterable[Structure]) -> dict[int, Duplicate]:
    """Find structures that match an earlier one and have its space group and number of atoms.

    Phases that differ by a small distortion, such as tilted octahedra, match, but are no
    duplicates: their primitive cells or their space groups, within 0.01 A, differ.

    Returns
    -------
    Duplicates by their index in ``structures``, ascending.
    """
    index = StructureIndex()
    kept: list[tuple[int, Structure]] = []
    duplicates: dict[int, Duplicate] = {}
    for i, structure in enumerate(structures):
        fingerprint = Fingerprint.from_structure(structure)
        for position in index.positions(fingerprint):
            first, other = kept[position]
            displacement = _displacement_within_phase(other, structure)
            if displacement is not None:
                duplicates[i] = Duplicate(first, displacement)
                break
        else:
            index.append(fingerprint)
            kept.append((i, structure))
    return duplicates


def _displacement_within_phase(first: Structure, second: Structure) -> float | None:
    """Return the displacement of matching atoms, A; None if the structures are two phases."""
    one, two = (symmetry_of(structure, TIGHT_SYMPREC).number for structure in (first, second))
    if one != two:
        return None
    cells = [primitive_cell(structure) for structure in (first, second)]
    distances = structure_matcher(primitive_cell=False).get_rms_dist(*cells)
    if distances is None:
        return None
    volume_per_atom = sum(cell.volume / len(cell) for cell in cells) / len(cells)
    return float(distances[0] * volume_per_atom ** (1 / 3))
