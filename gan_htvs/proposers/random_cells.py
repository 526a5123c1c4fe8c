"""Random cells with atoms anywhere: the weakest baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymatgen.core import Lattice, Structure

from gan_htvs.declash import VOLUME_PER_ATOM
from gan_htvs.proposers import Proposer, ProposerName

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from gan_htvs.chemistry import Counts

VOLUME_SPREAD = 0.2
"""Relative half width of the range of volumes per atom."""

LENGTHS = (0.6, 1.6)
"""Range of the edges before the cell is scaled to its volume; only their ratios count."""

ANGLES = (60.0, 120.0)
"""Range of the cell angles, degrees; every lattice has a cell within it."""

FLATTEST = 0.3
"""Smallest volume of the cell with unit edges; the corners of the range of angles are flat."""


class RandomCells(Proposer):
    """Proposes random cells with uniformly distributed atoms."""

    name = ProposerName.RANDOM
    volume_per_atom = VOLUME_PER_ATOM

    def raw_samples(self, counts: Counts, rng: np.random.Generator) -> Iterator[Structure]:
        """Yield structures without end."""
        species = [el for el, n in zip(self.system.elements, counts, strict=True) for _ in range(n)]
        while True:
            yield Structure(_cell(len(species), rng), species, rng.random((len(species), 3)))


def _cell(n_atoms: int, rng: np.random.Generator) -> Lattice:
    """Draw a cell of a sensible volume for so many atoms."""
    volume = n_atoms * VOLUME_PER_ATOM * rng.uniform(1 - VOLUME_SPREAD, 1 + VOLUME_SPREAD)
    lengths = rng.uniform(*LENGTHS, size=3)
    while True:
        angles = rng.uniform(*ANGLES, size=3)
        if Lattice.from_parameters(1, 1, 1, *angles).volume > FLATTEST:
            return Lattice.from_parameters(*lengths, *angles).scale(volume)
