"""Known crystals, with which samples are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gan_htvs.structures.matching import StructureIndex

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymatgen.core import Composition, Structure

    from gan_htvs.structures.fingerprint import Fingerprint


class KnownCrystals:
    """Structures that are not novel, and held-out structures that can be rediscovered.

    Parameters
    ----------
    known
        Training structures and reference phases.
    held_out
        Structures of the same source that were held out of training.

    Attributes
    ----------
    held_out_cells
        Composition of each held-out cell.
    """

    def __init__(self, known: Iterable[Structure], held_out: Iterable[Structure] = ()) -> None:
        self._known = StructureIndex(known)
        held_out = list(held_out)
        self._held_out = StructureIndex(held_out)
        self.held_out_cells = [structure.composition for structure in held_out]

    def __len__(self) -> int:
        """Return the number of structures that are not novel."""
        return len(self._known)

    def is_novel(self, structure: Structure | Fingerprint) -> bool:
        """Return whether a structure matches none of the known ones."""
        return self._known.first(structure) is None

    def rediscovered(
        self, structure: Structure | Fingerprint, cell: Composition
    ) -> tuple[int, ...]:
        """Return the positions of the held-out cells of equal size that a structure matches."""
        positions = self._held_out.positions(structure)
        return tuple(i for i in positions if self.held_out_cells[i] == cell)
