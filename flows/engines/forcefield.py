"""Energies from interatomic potentials, through atomate2's force-field Makers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from atomate2.forcefields.jobs import ForceFieldRelaxMaker, ForceFieldStaticMaker
from atomate2.forcefields.utils import MLFF
from jobflow import OnMissing

from gan_htvs.candidate import Relaxed
from gan_htvs.relaxation import LEVEL_OF_THEORY

if TYPE_CHECKING:
    from atomate2.forcefields.schemas import ForceFieldTaskDocument
    from jobflow import Job
    from pymatgen.core import Structure

    from gan_htvs.campaign import EnergyEngineSettings


@dataclass(frozen=True)
class CHGNetEngine:
    """CHGNet 0.3.0. Its energies already contain the MP2020 corrections."""

    settings: EnergyEngineSettings

    level_of_theory: ClassVar[str] = LEVEL_OF_THEORY["chgnet"]

    def relax(self, structure: Structure) -> Job:
        """Relax positions and cell to ``fmax``; a job of atomate2's ``ForceFieldRelaxMaker``."""
        maker = ForceFieldRelaxMaker(
            name=f"relax {structure.composition.reduced_formula}",
            force_field_name=MLFF.CHGNet,
            steps=self.settings.max_steps,
            relax_kwargs={"fmax": self.settings.fmax},
            optimizer_kwargs={"optimizer": self.settings.optimizer},
            ionic_step_data=("energy",),
        )
        return maker.make(structure)

    def static(self, relaxation: Job) -> Job:
        """Compute energy and magnetic moments; a job of atomate2's ``ForceFieldStaticMaker``."""
        maker = ForceFieldStaticMaker(
            name=relaxation.name.replace("relax", "static"),
            force_field_name=MLFF.CHGNet,
            ionic_step_data=("energy", "magmoms"),
        )
        static = maker.make(relaxation.output.structure)
        # A crashed relaxation must let the gate run, and record it as a failure.
        static.update_config({"on_missing_references": OnMissing.NONE})
        return static

    def summarise(
        self,
        structure: Structure,
        relaxation: ForceFieldTaskDocument | None,
        static: ForceFieldTaskDocument | None,
    ) -> Relaxed | None:
        """Read atomate2's task documents of one structure; None if either is missing."""
        if relaxation is None or static is None:
            return None
        last_step: Any = static.output.ionic_steps[-1]
        # Not ``is_force_converged``: it knows nothing of the stress, so that a strained rocksalt
        # cell passes, and counts forces that the optimizer sees in the frame of the relaxed cell.
        # The trajectory has the first and the last frame besides one for each step.
        n_steps = relaxation.output.n_steps - 2
        converged = n_steps < self.settings.max_steps
        return Relaxed(
            structure=static.structure,
            energy_per_atom=static.output.energy_per_atom,
            level_of_theory=self.level_of_theory,
            converged=converged,
            magmoms=last_step.magmoms,
            n_steps=n_steps,
            volume_change=static.structure.volume / structure.volume - 1,
        )
