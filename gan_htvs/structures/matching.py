"""Comparison of structures with pymatgen's StructureMatcher, filtered by fingerprints."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pymatgen.analysis.structure_matcher import StructureMatcher

from gan_htvs.structures.fingerprint import (
    ANGLE_TOLERANCE,
    LENGTH_TOLERANCE,
    SITE_TOLERANCE,
    Fingerprint,
    Formula,
    possible_matches,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pymatgen.core import Structure


def structure_matcher() -> StructureMatcher:
    """Build the matcher of this project: primitive cells, scaled volumes."""
    return StructureMatcher(
        ltol=LENGTH_TOLERANCE,
        stol=SITE_TOLERANCE,
        angle_tol=ANGLE_TOLERANCE,
        primitive_cell=True,
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
            self._append(Fingerprint.from_structure(structure))

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

    def _append(self, fingerprint: Fingerprint) -> None:
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
            self._append(fingerprint)
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
