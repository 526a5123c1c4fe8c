"""Which structures are the same crystal."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pymatgen.analysis.structure_matcher import StructureMatcher

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pymatgen.core import Structure


def structure_matcher() -> StructureMatcher:
    """Make the matcher that decides sameness everywhere: primitive cells, scaled volumes."""
    return StructureMatcher(ltol=0.2, stol=0.3, angle_tol=5, primitive_cell=True, scale=True)


class UniqueStructures:
    """A growing set of structures of which no two match.

    Only structures of one reduced formula are compared: the matcher never equates others, and it
    scales volumes away, so density would tell nothing.

    Parameters
    ----------
    known
        Structures that count as seen already.
    matcher
        What decides sameness; :func:`structure_matcher` if not given.
    """

    def __init__(
        self, known: Iterable[Structure] = (), *, matcher: StructureMatcher | None = None
    ) -> None:
        self._matcher = matcher or structure_matcher()
        self._seen: dict[str, list[Structure]] = defaultdict(list)
        for structure in known:
            self.add(structure)

    def add(self, structure: Structure) -> bool:
        """Take the structure in if it matches none before; tell whether it did."""
        bucket = self._seen[structure.composition.reduced_formula]
        if any(self._matcher.fit(structure, other) for other in bucket):
            return False
        bucket.append(structure)
        return True


def unique_indices(
    structures: Sequence[Structure], *, matcher: StructureMatcher | None = None
) -> list[int]:
    """Keep the first of each group of matching structures.

    Parameters
    ----------
    structures
        Any structures, in order of preference.
    matcher
        What decides sameness; :func:`structure_matcher` if not given.

    Returns
    -------
    Ascending indices into ``structures``.
    """
    unique = UniqueStructures(matcher=matcher)
    return [i for i, structure in enumerate(structures) if unique.add(structure)]
