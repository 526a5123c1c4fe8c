"""What packs write down while they work, so that none does again what has been done.

Each finished relaxation is written down at once, as a note. A pack that was killed reads its own
notes and goes on from there. Packs also read the notes of others, to find duplicates among the
structures that those have claimed or relaxed. The order of writing, which is the same for all
readers, decides: of two duplicates the one that was written first stays, and the other is
rejected. So never both are, no matter when or how often their packs read. Both may stay if their
packs write at the same moment or by clocks that differ: that costs a relaxation, and the final
hull tells them from one another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from gan_htvs.assessment import Judge

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pymatgen.core import Structure

    from gan_htvs.descent import Descent


class Found(NamedTuple):
    """A structure that a pack has relaxed."""

    candidate_id: str
    structure: Structure
    energy_per_atom: float


def is_sound(descent: Descent) -> bool:
    """Whether a relaxation came to a crystal that others may be duplicates of."""
    return descent.relaxed is not None and Judge.soundness(descent.relaxed) is None


class Notes(Protocol):
    """Where the notes are kept."""

    def descents(self, uuids: Collection[str]) -> dict[str, Descent]:
        """Read the relaxations that are noted, by uuid."""

    def note(self, uuid: str, candidate_id: str, descent: Descent) -> None:
        """Write a relaxation down."""

    def claim(self, starts: Mapping[str, Structure]) -> dict[str, Structure]:
        """Announce what will be relaxed here, by candidate.

        Returns what everybody announced, this and what came later included, in one order.
        """

    def found(self, formulas: Collection[str], level_of_theory: str) -> list[Found]:
        """List what everybody relaxed to a sound end with one potential, of reduced formulas.

        In the order in which it was noted.
        """


class NotebookInMemory:
    """Notes of one process."""

    def __init__(self) -> None:
        self.noted: dict[str, tuple[str, Descent]] = {}
        self.claims: dict[str, Structure] = {}

    def descents(self, uuids: Collection[str]) -> dict[str, Descent]:
        """Read the relaxations that are noted, by uuid."""
        return {uuid: self.noted[uuid][1] for uuid in uuids if uuid in self.noted}

    def note(self, uuid: str, candidate_id: str, descent: Descent) -> None:
        """Write a relaxation down."""
        self.noted[uuid] = (candidate_id, descent)

    def claim(self, starts: Mapping[str, Structure]) -> dict[str, Structure]:
        """Announce what will be relaxed here; return what everybody announced."""
        self.claims |= starts
        return self.claims

    def found(self, formulas: Collection[str], level_of_theory: str) -> list[Found]:
        """List what everybody relaxed to a sound end with one potential, of reduced formulas."""
        return [
            Found(candidate_id, descent.relaxed.structure, descent.relaxed.energy_per_atom)
            for candidate_id, descent in self.noted.values()
            if descent.relaxed is not None
            and is_sound(descent)
            and descent.relaxed.level_of_theory == level_of_theory
            and descent.relaxed.structure.composition.reduced_formula in formulas
        ]
