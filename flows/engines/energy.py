"""What an energy engine is, and which one a campaign asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from flows.engines.forcefield import ForceFieldEngine
from flows.engines.vasp import VaspEngine
from gan_htvs.engines import VASP_ENGINES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobflow import Job, OutputReference
    from pymatgen.core import Structure

    from gan_htvs.candidate import Relaxed
    from gan_htvs.engines import EngineSettings


class EnergyEngine(Protocol):
    """Relaxes structures and gives their energies, as jobs."""

    @property
    def level_of_theory(self) -> str:
        """Label of its energies; energies of different labels are never compared."""

    @property
    def content(self) -> Any:
        """The settings that decide its results; jobs are named by them."""

    def calculations(
        self,
        structure: Structure,
        uuid_of: Callable[[str], str],
        source: OutputReference | None = None,
        *,
        is_reference: bool = False,
    ) -> dict[str, Job]:
        """Make the jobs for one structure, by name, each after what it needs.

        A name that ends in 'static' is that of a static calculation, all others relax.

        Parameters
        ----------
        structure
            What to compute.
        uuid_of
            Turns a name into the uuid of the job.
        source
            Where the structure is stored, for jobs that can do with a reference to it.
        is_reference
            Whether it is a reference phase, to which the limits for generated structures do not
            apply.
        """

    def summarise(self, structure: Structure, outputs: Mapping[str, Any]) -> Relaxed:
        """Read what the jobs left, by name; a CalculationError says why it is of no use."""


def energy_engine(settings: EngineSettings) -> EnergyEngine:
    """Make the engine that campaign.yaml asks for."""
    if settings.energy.name in VASP_ENGINES:
        return VaspEngine(settings)
    return ForceFieldEngine(settings.energy)
