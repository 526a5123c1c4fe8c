"""Prototype substitution: the ions of a chemical system on the sites of known lattices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gan_htvs.dataset.decoration import decorate_composition, split_ions
from gan_htvs.proposers import Proposer, ProposerName

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from pymatgen.core import Structure

    from gan_htvs.chemistry import ChemicalSystem, Counts, OxidationRanges

LOWEST_ENERGY = 10
"""Orderings of lowest electrostatic energy of each prototype."""


class Substitution(Proposer):
    """Proposes decorated prototypes, the most plausible one of every prototype first.

    The dataset source ``prototypes`` is made in the same way with fewer orderings, so a generator
    that learnt from it has seen the first of these structures.

    Parameters
    ----------
    system, oxidation_states
        Elements, caps, and the average oxidation states that each element may have.

    Raises
    ------
    UserError
        If the system is not one of cations and anions with known bond valences.
    """

    name = ProposerName.SUBSTITUTION
    volume_per_atom = None

    def __init__(self, system: ChemicalSystem, oxidation_states: OxidationRanges) -> None:
        split_ions(
            system,
            oxidation_states,
            needed_by=f"the proposer {self.name.value!r}",
            cure="leave it out",
        )
        super().__init__(system)
        self.oxidation_states = oxidation_states

    def raw_samples(self, counts: Counts, rng: np.random.Generator) -> Iterator[Structure]:
        """Yield the decorations in their order; nothing about them is random."""
        del rng
        for candidate in decorate_composition(
            self.system, counts, self.oxidation_states, lowest_energy=LOWEST_ENERGY
        ):
            yield candidate.structure
