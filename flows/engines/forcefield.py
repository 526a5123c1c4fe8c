"""Energies from interatomic potentials, through atomate2's force-field Makers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from atomate2.forcefields.jobs import ForceFieldRelaxMaker, ForceFieldStaticMaker
from atomate2.forcefields.utils import MLFF
from jobflow import OnMissing

from gan_htvs.candidate import Relaxed, volume_change
from gan_htvs.errors import CalculationError
from gan_htvs.potentials import SEVENNET_MODELS, calculator_arguments
from gan_htvs.thermodynamics.corrections import energy_correction, level_of_theory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from atomate2.forcefields.schemas import ForceFieldTaskDocument
    from jobflow import Job, OutputReference
    from pymatgen.core import Structure

    from gan_htvs.engines import EnergyEngineSettings


@dataclass(frozen=True)
class ForceFieldEngine:
    """A potential that atomate2 knows; raw energies get the MP2020 corrections."""

    settings: EnergyEngineSettings

    @property
    def level_of_theory(self) -> str:
        """Label of its energies."""
        return level_of_theory(self.settings.name, self.settings.arguments).label

    @property
    def content(self) -> EnergyEngineSettings:
        """The settings that decide its results."""
        return self.settings

    def calculations(
        self,
        structure: Structure,
        uuid_of: Callable[[str], str],
        source: OutputReference | None = None,
        *,
        is_reference: bool = False,
    ) -> dict[str, Job]:
        """Make the jobs ``relax`` and ``static``, which check no geometry."""
        del is_reference
        relax = self.relax(structure, source)
        relax.set_uuid(uuid_of("relax"))
        static = self._static(relax)
        static.set_uuid(uuid_of("static"))
        return {"relax": relax, "static": static}

    def relax(self, structure: Structure, source: OutputReference | None = None) -> Job:
        """Relax positions and cell to ``fmax``; a job of atomate2's ``ForceFieldRelaxMaker``.

        It reads the structure at ``source`` if there is one.
        """
        maker = ForceFieldRelaxMaker(
            name=f"relax {structure.composition.reduced_formula}",
            force_field_name=self._force_field,
            calculator_kwargs=self._arguments,
            steps=self.settings.max_steps,
            relax_kwargs={"fmax": self.settings.fmax},
            optimizer_kwargs={"optimizer": self.settings.optimizer},
            ionic_step_data=("energy",),
        )
        return maker.make(source or structure)

    def _static(self, relaxation: Job) -> Job:
        """Compute the energy, and moments where the potential knows them."""
        has_moments = self._force_field is MLFF.CHGNet
        maker = ForceFieldStaticMaker(
            name=relaxation.name.replace("relax", "static"),
            force_field_name=self._force_field,
            calculator_kwargs=self._arguments,
            ionic_step_data=("energy", "magmoms") if has_moments else ("energy",),
        )
        static = maker.make(relaxation.output.structure)
        # A crashed relaxation must let the gate run, and record it as a failure.
        static.update_config({"on_missing_references": OnMissing.NONE})
        return static

    def summarise(
        self,
        structure: Structure,
        outputs: Mapping[str, ForceFieldTaskDocument | None],
    ) -> Relaxed:
        """Read atomate2's task documents of one structure.

        Raises
        ------
        CalculationError
            If either is missing or has no finite energy.
        """
        relaxation, static = outputs["relax"], outputs["static"]
        if relaxation is None or static is None:
            raise CalculationError("relaxation or static calculation ended without a result")
        if None in (relaxation.output, static.output, static.structure):
            raise CalculationError("a task document without output or structure")
        n_steps = n_relaxation_steps(relaxation)
        if n_steps is None:
            raise CalculationError("a task document that does not tell its steps")
        energy = static.output.energy_per_atom
        steps = static.output.ionic_steps
        magmoms = steps[-1].magmoms if steps else None
        if not np.isfinite([energy, *(magmoms or ())]).all():
            raise CalculationError(
                "energy or moments of the static calculation are not finite numbers"
            )
        correction = energy_correction(static.structure, energy, self.settings.name)
        # Not ``is_force_converged``: it knows nothing of the stress, so that a strained rocksalt
        # cell passes, and counts forces that the optimizer sees in the frame of the relaxed cell.
        return Relaxed(
            structure=static.structure,
            energy_per_atom=energy + correction,
            correction_per_atom=correction,
            level_of_theory=self.level_of_theory,
            converged=n_steps < self.settings.max_steps,
            magmoms=magmoms,
            n_steps=n_steps,
            volume_change=volume_change(structure, static.structure),
        )

    @property
    def _force_field(self) -> MLFF:
        name = self.settings.name
        if name in SEVENNET_MODELS:
            return MLFF.SevenNet
        return MLFF.CHGNet if name == "chgnet" else MLFF(name)

    @property
    def _arguments(self) -> dict[str, Any]:
        return calculator_arguments(self.settings.name) | self.settings.arguments


def n_relaxation_steps(relaxation: ForceFieldTaskDocument) -> int | None:
    """Count the steps that the optimizer took; None if the document does not tell."""
    n_frames = relaxation.output.n_steps
    # The trajectory has the first and the last frame besides one for each step.
    return None if n_frames is None else n_frames - 2
