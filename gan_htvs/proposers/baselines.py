"""Baselines: random cells, random symmetric crystals, and prototype substitution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymatgen.core import Lattice, Structure

from gan_htvs.core.stages import ProposerName
from gan_htvs.dataset.decoration import decorate_composition
from gan_htvs.dataset.ions import Ions
from gan_htvs.proposers.proposer import Proposer
from gan_htvs.structures.geometry_limits import CHEMISTRY, GeometryLimits
from gan_htvs.structures.random_crystals import symmetric_crystals

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from gan_htvs.core.chemical_system import ChemicalSystem, Counts, OxidationRanges

VOLUME_SPREAD = 0.2
"""Relative half width of the range of volumes per atom."""

LENGTHS = (0.6, 1.6)
"""Range of the edges before the cell is scaled to its volume; only their ratios matter."""

ANGLES = (60.0, 120.0)
"""Range of the cell angles, degrees; every lattice has such a cell."""

MIN_UNIT_VOLUME = 0.3
"""Smallest volume of the cell with unit edges; excludes flat cells."""


N_LOWEST_ENERGY = 10
"""Orderings of lowest electrostatic energy per prototype."""


class RandomCells(Proposer):
    """Proposes random cells with uniformly distributed atoms."""

    name = ProposerName.RANDOM
    shrinks_loose = True

    def raw_samples(self, counts: Counts, rng: np.random.Generator) -> Iterator[Structure]:
        """Yield structures endlessly."""
        species = [el for el, n in zip(self.system.elements, counts, strict=True) for _ in range(n)]
        volume = len(species) * self.geometry.target_volume(self.system.elements)
        while True:
            yield Structure(_cell(volume, rng), species, rng.random((len(species), 3)))


def _cell(typical: float, rng: np.random.Generator) -> Lattice:
    """Draw a cell with about the volume ``typical``, A^3."""
    volume = typical * rng.uniform(1 - VOLUME_SPREAD, 1 + VOLUME_SPREAD)
    lengths = rng.uniform(*LENGTHS, size=3)
    while True:
        angles = rng.uniform(*ANGLES, size=3)
        if Lattice.from_parameters(1, 1, 1, *angles).volume > MIN_UNIT_VOLUME:
            return Lattice.from_parameters(*lengths, *angles).scale(volume)


class SymmetricCrystals(Proposer):
    """Proposes random symmetric crystals."""

    name = ProposerName.SYMMETRIC
    shrinks_loose = True

    def raw_samples(self, counts: Counts, rng: np.random.Generator) -> Iterator[Structure]:
        """Yield crystals endlessly, or none if PyXtal cannot build one."""
        amounts = dict(zip(self.system.elements, counts, strict=True))
        return symmetric_crystals(amounts, rng, self.geometry)


class Substitution(Proposer):
    """Proposes decorated prototypes, the most plausible one of every prototype first.

    The dataset source ``prototypes`` consists of the first of these structures.

    Parameters
    ----------
    system, oxidation_states
        Elements, caps, and the average oxidation states that each element may have.
    geometry
        Limits for the samples.

    Raises
    ------
    UserError
        If the elements do not divide into cations and anions with known bond valences.
    """

    name = ProposerName.SUBSTITUTION
    scales = False

    def __init__(
        self,
        system: ChemicalSystem,
        oxidation_states: OxidationRanges,
        geometry: GeometryLimits = CHEMISTRY,
    ) -> None:
        needed_by = f"the proposer {self.name.value!r}"
        self.ions = Ions(system, oxidation_states, needed_by=needed_by, fix="remove it")
        super().__init__(system, geometry)

    def raw_samples(self, counts: Counts, rng: np.random.Generator) -> Iterator[Structure]:
        """Yield the decorated prototypes in a fixed order, independent of ``rng``."""
        del rng
        for candidate in decorate_composition(
            self.ions, counts, n_lowest_energy=N_LOWEST_ENERGY, geometry=self.geometry
        ):
            yield candidate.structure
