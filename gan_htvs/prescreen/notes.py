"""What packs write down while they work, so that none does again what has been done.

Each finished relaxation is a note, written as it comes: a pack that was killed reads its own notes
and goes on. Packs read one another's, too: what another one has claimed or relaxed is a duplicate
here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pymatgen.core import Structure

    from gan_htvs.descent import Descent


class Found(NamedTuple):
    """A structure that another pack has relaxed."""

    candidate_id: str
    structure: Structure
    energy_per_atom: float


class Notes(Protocol):
    """Where the notes are kept."""

    def descents(self, uuids: Collection[str]) -> dict[str, Descent]:
        """Read the relaxations that are noted, by uuid."""

    def note(self, uuid: str, candidate_id: str, descent: Descent) -> None:
        """Write a relaxation down."""

    def claim(self, starts: Mapping[str, Structure]) -> dict[str, Structure]:
        """Announce what will be relaxed here, by candidate; return what others announced before.

        Of two packs that announce the same at one moment, one gives way.
        """

    def found(
        self, formulas: Collection[str], level_of_theory: str, but: Collection[str]
    ) -> list[Found]:
        """List what others have relaxed to the end, of some reduced formulas, with one potential.

        ``but``: the candidates that are not others'.
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
        """Announce what will be relaxed here; return what was announced before."""
        before = {name: crystal for name, crystal in self.claims.items() if name not in starts}
        self.claims |= starts
        return before

    def found(
        self, formulas: Collection[str], level_of_theory: str, but: Collection[str]
    ) -> list[Found]:
        """List what others have relaxed to the end, of some reduced formulas."""
        return [
            Found(candidate_id, descent.relaxed.structure, descent.relaxed.energy_per_atom)
            for candidate_id, descent in self.noted.values()
            if candidate_id not in but
            and descent.relaxed is not None
            and descent.relaxed.converged
            and descent.relaxed.level_of_theory == level_of_theory
            and descent.relaxed.structure.composition.reduced_formula in formulas
        ]
