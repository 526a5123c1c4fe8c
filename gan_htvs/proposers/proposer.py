"""What proposes structures of a composition: the generator, and the baselines beside it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TypeAlias

from gan_htvs.core.stages import ProposerName

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from pymatgen.core import Structure

    from gan_htvs.core.chemical_system import ChemicalSystem, Counts, OxidationRanges
    from gan_htvs.generator.checkpoint import TrainedGenerator
    from gan_htvs.structures.validity import RejectionReason

    RawSample: TypeAlias = Structure | RejectionReason
    """A structure before overlap removal, or a rejection reason."""


FINITE = frozenset({ProposerName.SUBSTITUTION})
"""Proposers with one fixed list of structures for each composition, whatever the seed."""


class Proposer(ABC):
    """Proposes structures of a chemical system.

    Parameters
    ----------
    system
        Elements, in the order of the counts, and caps.

    Attributes
    ----------
    name
        What it is called in campaign.yaml.
    volume_per_atom
        Target volume of overlap removal for loose and overlapping cells, A^3; None keeps theirs.
    """

    name: ProposerName
    volume_per_atom: float | None

    def __init__(self, system: ChemicalSystem) -> None:
        self.system = system

    @abstractmethod
    def raw_samples(self, counts: Counts, rng: np.random.Generator) -> Iterator[RawSample]:
        """Yield raw samples of one composition, decided by ``rng``, until there are no more.

        Parameters
        ----------
        counts
            Atoms of each element in the cell, within the caps.
        rng
            The source of all randomness; how far the iterator is read decides nothing.
        """


def make_proposer(
    name: ProposerName,
    system: ChemicalSystem,
    oxidation_states: OxidationRanges,
    trained: TrainedGenerator | None = None,
) -> Proposer:
    """Make a proposer by its name.

    Parameters
    ----------
    name
        Which one.
    system, oxidation_states
        What it proposes for.
    trained
        What ``gan`` samples from.

    Raises
    ------
    ValueError
        If ``gan`` is asked for without a trained generator.
    UserError
        If ``substitution`` cannot tell the cations of the system from its anions.
    """
    # The libraries behind the proposers are slow to import.
    if name is ProposerName.GAN:
        from gan_htvs.proposers.gan import GanProposer  # noqa: PLC0415

        if trained is None:
            raise ValueError("the proposer 'gan' needs a trained generator")
        return GanProposer(trained)
    from gan_htvs.proposers import baselines  # noqa: PLC0415

    if name is ProposerName.SUBSTITUTION:
        return baselines.Substitution(system, oxidation_states)
    if name is ProposerName.SYMMETRIC:
        return baselines.SymmetricCrystals(system)
    return baselines.RandomCells(system)
