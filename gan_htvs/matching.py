"""Which structures are the same crystal."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pymatgen.analysis.structure_matcher import StructureMatcher

from gan_htvs.fingerprint import (
    ANGLE_TOLERANCE,
    LENGTH_TOLERANCE,
    SITE_TOLERANCE,
    Fingerprint,
    FingerprintTable,
    Formula,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pymatgen.core import Structure


def structure_matcher() -> StructureMatcher:
    """Make the matcher that decides sameness everywhere: primitive cells, scaled volumes."""
    return StructureMatcher(
        ltol=LENGTH_TOLERANCE,
        stol=SITE_TOLERANCE,
        angle_tol=ANGLE_TOLERANCE,
        primitive_cell=True,
        scale=True,
    )


class KnownStructures:
    """Structures to look others up in.

    The matcher decides, but it is shown only pairs whose fingerprints do not rule a match out, in
    cells that are reduced once.

    Parameters
    ----------
    structures
        In the order of their positions, counted from 0.
    """

    def __init__(self, structures: Iterable[Structure] = ()) -> None:
        self._matcher = structure_matcher()
        self._tables: dict[Formula, FingerprintTable] = defaultdict(FingerprintTable)
        self._positions: dict[Formula, list[int]] = defaultdict(list)
        self._n = 0
        for structure in structures:
            self._append(Fingerprint.of(structure))

    def __len__(self) -> int:
        return self._n

    def holds(self, structure: Structure) -> bool:
        """Whether any of them matches."""
        return any(True for _ in self._matches(Fingerprint.of(structure)))

    def positions(self, structure: Structure | Fingerprint) -> tuple[int, ...]:
        """Positions of all that match, ascending."""
        return tuple(self._matches(_fingerprint(structure)))

    def _append(self, fingerprint: Fingerprint) -> None:
        self._tables[fingerprint.formula].append(fingerprint)
        self._positions[fingerprint.formula].append(self._n)
        self._n += 1

    def _matches(self, new: Fingerprint) -> Iterator[int]:
        table = self._tables[new.formula]
        for i in table.possible_matches(new):
            if self._matcher.fit(table.structures[i], new.structure, skip_structure_reduction=True):
                yield self._positions[new.formula][i]


class UniqueStructures(KnownStructures):
    """A growing set of structures of which no two match.

    Parameters
    ----------
    known
        Structures that count as seen already.
    """

    def __init__(self, known: Iterable[Structure] = ()) -> None:
        super().__init__()
        for structure in known:
            self.add(structure)

    def add(self, structure: Structure) -> bool:
        """Take the structure in if it matches none before; tell whether it did."""
        before = len(self)
        return self.place(structure) == before

    def place(self, structure: Structure | Fingerprint) -> int:
        """Take the structure in if it matches none before; tell its position or the match's."""
        fingerprint = _fingerprint(structure)
        position = next(self._matches(fingerprint), None)
        if position is None:
            position = len(self)
            self._append(fingerprint)
        return position


class NamedCrystals:
    """A growing set of crystals, each with the name of whoever came with it first."""

    def __init__(self) -> None:
        self._unique = UniqueStructures()
        self._names: dict[int, str] = {}

    def match(self, name: str, structure: Structure) -> str | None:
        """Take a crystal in; tell whose it is, if it was there."""
        position = self._unique.place(structure)
        if position in self._names:
            return self._names[position]
        self._names[position] = name
        return None


def _fingerprint(structure: Structure | Fingerprint) -> Fingerprint:
    return structure if isinstance(structure, Fingerprint) else Fingerprint.of(structure)


def group_structures(structures: Iterable[Structure]) -> list[list[int]]:
    """Group matching structures, as ``StructureMatcher.group_structures`` does.

    Returns
    -------
    Indices into ``structures``, ascending within groups, groups by their first members.
    """
    unique = UniqueStructures()
    groups: dict[int, list[int]] = defaultdict(list)
    for i, structure in enumerate(structures):
        groups[unique.place(structure)].append(i)
    return list(groups.values())


def unique_indices(structures: Iterable[Structure]) -> list[int]:
    """Keep the first of each group of matching structures: ascending indices."""
    return [group[0] for group in group_structures(structures)]
