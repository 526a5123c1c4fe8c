"""One VASP calculation: an atomate2 Maker with checks, whose failure is a document.

A failed candidate must not stop others, and its reason must be in the database. Therefore a step
always completes: its output is atomate2's ``TaskDoc``, or a
:class:`~gan_htvs.core.failure.CalculationFailure` that the following steps pass on.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from atomate2.utils.path import strip_hostname
from atomate2.vasp import powerups
from atomate2.vasp.jobs.base import BaseVaspMaker
from atomate2.vasp.run import DEFAULT_HANDLERS
from custodian.vasp.handlers import FrozenJobErrorHandler, WalltimeHandler
from custodian.vasp.validators import VaspFilesValidator, VasprunXMLValidator
from emmet.core.tasks import TaskDoc
from jobflow import Maker, Response, job
from pymatgen.core import Structure

from flows.energy import failure_of_job
from flows.engines.atomate2_settings import incar_updates
from flows.engines.vasp_outcome import (
    POLARIZED,
    MomentsValidator,
    check_convergence,
    check_finite,
    check_program,
    corrections_in,
    explain,
    store_band_edges,
)
from flows.routing import TOLERANT
from gan_htvs.campaign.engines import check_level_of_theory
from gan_htvs.core.candidate import RelaxedStructure
from gan_htvs.core.errors import CalculationError, UserError
from gan_htvs.core.failure import CalculationFailure
from gan_htvs.structures.geometry_limits import GeometryLimits
from gan_htvs.structures.validity import check_geometry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymatgen.io.vasp.sets import VaspInputSet

    from gan_htvs.campaign.engines import VaspSettings

    Start: TypeAlias = Structure | RelaxedStructure | TaskDoc | None
    """Start of a step: a structure, or the output of the previous job."""

CONTINUE_AFTER_FAILURE = {"handle_unsuccessful": False}
"""atomate2's VASP_HANDLE_UNSUCCESSFUL. By default atomate2 raises if a calculation did not
converge, and no document is stored. If the following jobs were stopped, there would be no verdict.
So they run, and pass the failure on without starting VASP."""

VALIDATORS = (VasprunXMLValidator(), VaspFilesValidator(), MomentsValidator())
"""Validators of atomate2 and of this package."""

MIN_LORBIT = 10
"""With smaller values VASP writes no moments of atoms into OUTCAR."""

MOMENT_TOLERANCE = 1e-3
"""Precision of moments in INCAR, Bohr magnetons."""

NO_MOMENT = 0.02
"""If all moments are smaller, pymatgen may switch spin off, Bohr magnetons."""

WALLTIME_START = "CUSTODIAN_WALLTIME_START"
"""Environment variable with the start of custodian's time limit. It is removed before each
calculation, because one worker runs many, each with its own limit."""


@dataclass
class VaspStepMaker(Maker):
    """Run one Maker of atomate2, and return every error as a document.

    Parameters
    ----------
    name
        Name of the calculation, such as "AFM relax 2".
    vasp
        The Maker of atomate2, which powerups of atomate2 also find here.
    arguments
        Arguments of the Maker besides structure and folder.
    max_errors, max_seconds, frozen_seconds
        Limits of custodian, see ``engines.vasp``.
    polling_seconds
        Interval at which custodian checks whether the calculation has ended, s; it checks for
        errors 30 times less often.
    is_reference
        Whether the structure is a reference phase: limits for generated structures do not apply.
    geometry
        Limits for generated structures.
    """

    name: str = "VASP"
    vasp: BaseVaspMaker = field(default_factory=BaseVaspMaker)
    arguments: dict[str, Any] = field(default_factory=dict)
    max_errors: int = 5
    max_seconds: int | None = None
    frozen_seconds: int = 21_600
    polling_seconds: float = 10.0
    is_reference: bool = False
    geometry: GeometryLimits = field(default_factory=GeometryLimits)

    @classmethod
    def of(cls, settings: VaspSettings) -> VaspStepMaker:
        """Return the Maker for the settings of ``engines.vasp``."""
        limits = {"max_errors", "max_seconds", "frozen_seconds", "polling_seconds"}
        return cls(**settings.model_dump(include=limits))

    @job(config=TOLERANT, data="vasp_objects")
    def make(
        self, start: Start | CalculationFailure, magmoms: list[float] | None = None
    ) -> Response[TaskDoc | CalculationFailure]:
        """Run the calculation in the current directory.

        Parameters
        ----------
        start
            A structure, or the document of the previous step. The folder and the moments of a
            previous VASP calculation are used.
        magmoms
            Initial moments, Bohr magnetons; an empty list: those of the input set; None: those of
            ``start``.
        """
        if isinstance(start, CalculationFailure):
            return Response(output=start)
        try:
            geometry = None if self.is_reference else self.geometry
            structure, folder = _start_of(start, magmoms, geometry)
            os.environ.pop(WALLTIME_START, None)
            check_moments(structure, self.vasp.input_set_generator, folder)
            make = type(self.vasp).make.original
            response = make(self._configured(), structure, folder, **self.arguments)
            task = response.output
            check_program(Path.cwd())
            check_convergence(task)
            check_finite(task)
            if task.calcs_reversed[0].input.parameters["NSW"] <= 0:
                store_band_edges(task, Path.cwd())
        except Exception as error:  # noqa: BLE001 - other candidates must continue
            return Response(output=self._failure(error))
        return Response(output=task, stored_data=response.stored_data)

    def _configured(self) -> BaseVaspMaker:
        """Return the Maker with handlers, validators and limits."""
        handlers = [h for h in DEFAULT_HANDLERS if not isinstance(h, FrozenJobErrorHandler)]
        handlers.append(FrozenJobErrorHandler(timeout=self.frozen_seconds))
        if (limit := self.max_seconds) is not None:
            reserve = min(300, max(60, limit // 10))
            handlers.append(WalltimeHandler(limit, reserve, electronic_step_stop=True))
        run = {
            "handlers": handlers,
            "validators": VALIDATORS,
            "max_errors": self.max_errors,
            "custodian_kwargs": {"polling_time_step": self.polling_seconds},
            **self.vasp.run_vasp_kwargs,
        }
        return replace(self.vasp, run_vasp_kwargs=run, stop_children_kwargs=CONTINUE_AFTER_FAILURE)

    def _failure(self, error: Exception) -> CalculationFailure:
        corrections = corrections_in(Path.cwd())
        reason, is_retryable = explain(error, corrections, Path.cwd())
        return failure_of_job(
            self.vasp.name, reason, corrections=corrections, is_retryable=is_retryable
        )


def customized(
    vasp: BaseVaspMaker, settings: VaspSettings, incar: Mapping[str, Any]
) -> BaseVaspMaker:
    """Apply the settings of a campaign to a Maker of atomate2.

    Parameters
    ----------
    vasp
        The Maker.
    settings
        Section ``engines.vasp`` of campaign.yaml.
    incar
        INCAR tags that differ from those of its input set.

    Raises
    ------
    UserError
        If a powerup does not accept its arguments, or changes the level of theory.
    """
    vasp = powerups.update_user_potcar_functional(vasp, settings.potcar_functional)
    if incar:
        vasp = powerups.update_user_incar_settings(vasp, dict(incar))
    before = vasp.input_set_generator.user_incar_settings
    for powerup in settings.powerups:
        try:
            vasp = getattr(powerups, powerup.name)(vasp, **powerup.arguments)
            after = vasp.input_set_generator.user_incar_settings
            check_level_of_theory({tag: after[tag] for tag in after.keys() - before.keys()})
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise UserError(f"engines.vasp.powerups: {powerup.name}: {error}") from error
    return vasp


def _start_of(
    start: Start, magmoms: list[float] | None, geometry: GeometryLimits | None
) -> tuple[Structure, str | None]:
    """Return the structure to start from and the folder of the calculation that relaxed it."""
    if start is None:
        raise CalculationError("the previous calculation has no output")
    if isinstance(start, TaskDoc):
        return start.structure, strip_hostname(start.dir_name)
    structure, folder = start if isinstance(start, Structure) else start.structure, None
    # Reference phases and relaxed structures were checked before.
    if isinstance(start, Structure) and geometry is not None:
        flaw = check_geometry(structure, geometry)
        if flaw is not None:
            raise CalculationError(f"structure to start from: {flaw}")
    if isinstance(start, RelaxedStructure):
        folder = start.folder and strip_hostname(start.folder)
        magmoms = start.magmoms if magmoms is None else magmoms
    plain = Structure(structure.lattice, structure.species, structure.frac_coords)
    if magmoms:
        plain.add_site_property("magmom", magmoms)
    return plain, folder


def check_moments(structure: Structure, generator: VaspInputSet, folder: str | None = None) -> None:
    """Check that VASP starts from the moments of a structure and writes the final ones.

    The check reads the INCAR that atomate2 will write, with the tags of its settings file. Earlier
    versions lost magnetic orderings between steps (atomate2 #505, pymatgen #3431), which cannot be
    seen in the result.

    Parameters
    ----------
    structure
        Structure; moments are in the site property ``magmom``, Bohr magnetons, if it has any.
    generator
        Input set of the calculation.
    folder
        Folder of the previous calculation.

    Raises
    ------
    CalculationError
        If MAGMOM would differ, or LORBIT would suppress the moments.
    UserError
        If the settings of atomate2 change the level of theory.
    """
    updates = incar_updates()
    incar = generator.get_input_set(structure, prev_dir=folder, potcar_spec=True).incar
    incar.update(updates)
    if incar.get("ISPIN") == POLARIZED and incar.get("LORBIT", 0) < MIN_LORBIT:
        raise CalculationError(
            f"LORBIT = {incar.get('LORBIT', 0)} suppresses the magnetic moments; set 10 or 11, or "
            "remove it"
        )
    if "magmom" not in structure.site_properties:
        return
    # POSCAR is sorted by species, and MAGMOM with it.
    expected = structure.get_sorted_structure().site_properties["magmom"]
    written = incar.get("MAGMOM")
    if incar.get("ISPIN") == 1 and np.abs(expected).max() < NO_MOMENT:
        return  # the powerup use_auto_ispin
    is_same = np.shape(written) == np.shape(expected) and np.allclose(
        written, expected, rtol=0, atol=MOMENT_TOLERANCE
    )
    if not is_same:
        raise CalculationError(
            f"MAGMOM would be {written}, but the previous moments are {expected}"
        )
