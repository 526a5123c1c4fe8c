"""Base class of the proposers of structures, and their construction by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TypeAlias

from gan_htvs.core.stages import ProposerName
from gan_htvs.structures.geometry_limits import CHEMISTRY, GeometryLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from pymatgen.core import Structure

    from gan_htvs.core.chemical_system import ChemicalSystem, Counts, OxidationRanges
    from gan_htvs.generator.checkpoint import TrainedGenerator
    from gan_htvs.structures.validity import RejectionReason

    RawSample: TypeAlias = Structure | RejectionReason
    """A structure before overlap removal, or a rejection reason."""


class Proposer(ABC):
    """Proposes structures of a chemical system.

    Parameters
    ----------
    system
        Elements, in the order of the counts, and caps.
    geometry
        Limits for the samples.

    Attributes
    ----------
    name
        Name in campaign.yaml.
    scales, shrinks_loose
        Whether overlap removal scales overlapping cells to the target volume, and loose ones; see
        :func:`gan_htvs.structures.declash.declash`. Loose cells only if volumes are made up.
    """

    name: ProposerName
    scales: bool = True
    shrinks_loose: bool = False

    def __init__(self, system: ChemicalSystem, geometry: GeometryLimits = CHEMISTRY) -> None:
        self.system = system
        self.geometry = geometry

    def assemble(self, structure: Structure) -> Structure:
        """Assemble the polyanions of a raw sample, before and after overlap removal."""
        return structure

    @abstractmethod
    def raw_samples(self, counts: Counts, rng: np.random.Generator) -> Iterator[RawSample]:
        """Yield raw samples of one composition, endlessly or until the proposals run out.

        Parameters
        ----------
        counts
            Atoms of each element in the cell, within the caps.
        rng
            Source of all randomness. A sample does not depend on how many others are drawn.
        """


def make_proposer(
    name: ProposerName,
    system: ChemicalSystem,
    oxidation_states: OxidationRanges,
    trained: TrainedGenerator | None = None,
    geometry: GeometryLimits = CHEMISTRY,
) -> Proposer:
    """Make a proposer by its name.

    Parameters
    ----------
    name
        Name of the proposer.
    system, oxidation_states
        Elements, caps, and the average oxidation states that each element may have.
    trained
        Generator of the proposer ``gan``.
    geometry
        Limits for the samples.

    Raises
    ------
    ValueError
        If ``name`` is ``gan`` and there is no trained generator.
    UserError
        If ``substitution`` cannot separate the cations and anions of the system.
    """
    geometry = geometry.for_ions(system.elements, oxidation_states)
    # The libraries behind the proposers are slow to import.
    if name is ProposerName.GAN:
        from gan_htvs.proposers.gan import GanProposer  # noqa: PLC0415

        if trained is None:
            raise ValueError("the proposer 'gan' needs a trained generator")
        return GanProposer(trained, geometry, oxidation_states)
    from gan_htvs.proposers import baselines  # noqa: PLC0415

    if name is ProposerName.SUBSTITUTION:
        return baselines.Substitution(system, oxidation_states, geometry)
    if name is ProposerName.SYMMETRIC:
        return baselines.SymmetricCrystals(system, geometry)
    return baselines.RandomCells(system, geometry)
