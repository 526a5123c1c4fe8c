"""Structures that were there before, and which of them a new one is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gan_htvs.matching import KnownStructures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure

    from gan_htvs.chemistry import Counts
    from gan_htvs.dataset import Dataset
    from gan_htvs.thermodynamics.references import ReferencePhase


class KnownCrystals:
    """What samples are compared with: training structures, known phases, and what was held out.

    Parameters
    ----------
    training, held_out
        A dataset, split in two.
    phases
        Known phases, which count as known whether they are in the dataset or not.
    """

    def __init__(
        self, training: Dataset, held_out: Dataset | None, phases: Sequence[ReferencePhase]
    ) -> None:
        self.system = training.system
        self._known = KnownStructures(
            [*training.structures(), *(phase.structure for phase in phases)]
        )
        kept_back = held_out.structures() if held_out else []
        self._held_out = KnownStructures(kept_back)
        self._counts = [self.system.counts(structure) for structure in kept_back]

    def is_novel(self, structure: Structure) -> bool:
        """Whether it matches neither a training structure nor a known phase."""
        return not self._known.holds(structure)

    def n_held_out(self, counts: Counts) -> int:
        """Held-out cells with these atoms."""
        return self._counts.count(counts)

    def rediscovered(self, structure: Structure) -> tuple[int, ...]:
        """Positions of the held-out cells with as many atoms that the structure matches."""
        counts = self.system.counts(structure)
        return tuple(i for i in self._held_out.positions(structure) if self._counts[i] == counts)
