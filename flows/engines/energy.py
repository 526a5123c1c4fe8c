"""What an energy engine is, and which one a campaign asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from flows.engines.forcefield import ForceFieldEngine

if TYPE_CHECKING:
    from jobflow import Job
    from pymatgen.core import Structure

    from gan_htvs.campaign import EnergyEngineSettings
    from gan_htvs.candidate import Relaxed


class EnergyEngine(Protocol):
    """Relaxes structures and gives their energies, as jobs."""

    @property
    def level_of_theory(self) -> str:
        """Label of its energies; energies of different labels are never compared."""

    def relax(self, structure: Structure) -> Job:
        """Relax positions and cell."""

    def static(self, relaxation: Job) -> Job:
        """Compute the energy of what a relaxation job made."""

    def summarise(self, structure: Structure, relaxation: Any, static: Any) -> Relaxed:
        """Read the two task documents; a CalculationError says why they are of no use."""


def energy_engine(settings: EnergyEngineSettings) -> EnergyEngine:
    """Make the engine that campaign.yaml asks for."""
    return ForceFieldEngine(settings)
