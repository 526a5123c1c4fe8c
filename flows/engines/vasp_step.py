"""One VASP calculation: an atomate2 Maker, checked before it starts, whose failure is a document.

A candidate must never stop its neighbours, and nobody wants to look for the reason in the logs of
a queue. So a step always completes: it leaves atomate2's ``TaskDoc``, or a
:class:`~gan_htvs.failures.CalculationFailure` that the steps after it hand on to the gate.
"""

from __future__ import annotations

import os
import random
import shlex
import socket
import sys
from contextlib import contextmanager
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
from jobflow import CURRENT_JOB, JobConfig, Maker, OnMissing, Response, job
from pymatgen.core import Structure

from flows.engines.atomate2_settings import incar_updates
from flows.engines.vasp_outcome import (
    MomentsValidator,
    check_convergence,
    check_finite,
    check_moments_left,
    check_program,
    corrections_in,
    is_retryable,
    reason_of,
    store_band_edges,
)
from gan_htvs.candidate import Relaxed
from gan_htvs.engines import level_of_theory_stays
from gan_htvs.errors import CalculationError, UserError
from gan_htvs.failures import CalculationFailure
from gan_htvs.potcars import potcar_symbols
from gan_htvs.rehearsal.inputs import POLARIZED
from gan_htvs.validity import check_geometry, unphysical_change

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from atomate2.forcefields.schemas import ForceFieldTaskDocument
    from pymatgen.io.vasp.sets import VaspInputSet

    from gan_htvs.engines import EngineSettings

    Start: TypeAlias = Structure | Relaxed | TaskDoc | ForceFieldTaskDocument | None
    """What a step may start from: a structure, or what a job before it left."""

GO_ON = {"handle_unsuccessful": False}
"""What atomate2 calls VASP_HANDLE_UNSUCCESSFUL. Its default, to raise, leaves no document of a
calculation that did not converge, and to stop the children would keep the gate from telling why a
candidate failed. So they go on, and hand the failure on without running VASP."""

FOLLOWS_ANYTHING = JobConfig(on_missing_references=OnMissing.NONE)
"""A step runs, and says what is wrong, even if the job before it left nothing at all."""

VALIDATORS = (VasprunXMLValidator(), VaspFilesValidator(), MomentsValidator())
"""Those of atomate2, and ours."""

LEAST_LORBIT = 10
"""With less, VASP writes no moments of atoms into OUTCAR."""

MOMENT_TOLERANCE = 1e-3
"""Moments are written into INCAR with so many digits, Bohr magnetons."""

NO_MOMENT = 0.02
"""Where all moments are smaller, pymatgen may switch spin off, Bohr magnetons."""

STAND_IN = (sys.executable, "-m", "gan_htvs.rehearsal")
"""The command that takes the place of VASP in a rehearsal."""

STAND_IN_POLLING = {"polling_time_step": 0.2, "monitor_freq": 5}
"""Custodian looks at a real calculation every ten seconds, and a stand-in takes less."""

STAND_IN_PATIENCE = 120
"""Nor is it ever silent for so long, s, unless it hangs."""

WALLTIME_START = "CUSTODIAN_WALLTIME_START"
"""Custodian counts from here; one worker runs many calculations, each with a limit of its own."""


@dataclass
class VaspStepMaker(Maker):
    """Run one Maker of atomate2, and let nothing that goes wrong escape.

    Parameters
    ----------
    name
        Name of the calculation, such as "AFM relax 2".
    vasp
        The Maker; powerups find it in here.
    arguments
        What the Maker is called with besides structure and folder.
    max_errors, max_seconds, frozen_seconds
        How patient custodian is, see ``engines.vasp``.
    is_rehearsal
        Whether a stand-in takes the place of VASP.
    failures
        Share of the rehearsed calculations that fail in each way.
    is_reference
        Whether reference phases are computed, to which the limits for generated structures do not
        apply.
    """

    name: str = "VASP"
    vasp: BaseVaspMaker = field(default_factory=BaseVaspMaker)
    arguments: dict[str, Any] = field(default_factory=dict)
    max_errors: int = 5
    max_seconds: int | None = None
    frozen_seconds: int = 21_600
    is_rehearsal: bool = False
    failures: dict[str, float] = field(default_factory=dict)
    is_reference: bool = False

    @classmethod
    def of(
        cls,
        vasp: BaseVaspMaker,
        settings: EngineSettings,
        incar: Mapping[str, Any],
        **arguments: Any,
    ) -> VaspStepMaker:
        """Bring a Maker of atomate2 and the settings of a campaign together.

        Parameters
        ----------
        vasp
            The Maker; its name becomes that of the step.
        settings
            Section ``engines`` of campaign.yaml.
        incar
            INCAR tags that differ from those of its input set.
        **arguments
            What the Maker is called with besides structure and folder.

        Raises
        ------
        UserError
            If a powerup does not take the arguments that it is given, or changes the level of
            theory.
        """
        vasp = replace(vasp, stop_children_kwargs=GO_ON)
        vasp = powerups.update_user_potcar_functional(vasp, settings.vasp.potcar_functional)
        if incar:
            vasp = powerups.update_user_incar_settings(vasp, dict(incar))
        before = vasp.input_set_generator.user_incar_settings
        for powerup in settings.vasp.powerups:
            try:
                vasp = getattr(powerups, powerup.name)(vasp, **powerup.arguments)
                after = vasp.input_set_generator.user_incar_settings
                level_of_theory_stays({tag: after[tag] for tag in after.keys() - before.keys()})
            except (TypeError, ValueError, AttributeError, KeyError) as error:
                raise UserError(f"engines.vasp.powerups: {powerup.name}: {error}") from error
        return cls(
            name=vasp.name,
            vasp=vasp,
            arguments=arguments,
            max_errors=settings.vasp.max_errors,
            max_seconds=settings.vasp.max_seconds,
            frozen_seconds=settings.vasp.frozen_seconds,
            is_rehearsal=settings.is_rehearsal,
            failures={str(mode): share for mode, share in settings.vasp.failures.items()},
        )

    @job(config=FOLLOWS_ANYTHING, data="vasp_objects")
    def make(
        self, start: Start | CalculationFailure, magmoms: list[float] | None = None
    ) -> Response[TaskDoc | CalculationFailure]:
        """Run the calculation in the current directory.

        Parameters
        ----------
        start
            A structure, or the document of the step before. After a calculation of VASP its
            folder is used, too, and its moments go on.
        magmoms
            Moments to start from where the structure has none of its own, Bohr magnetons; None:
            those of the input set.
        """
        if isinstance(start, CalculationFailure):
            return Response(output=start)
        try:
            structure, folder = _taken_up(start, magmoms, is_reference=self.is_reference)
            with self._environment(structure):
                check_moments(structure, self.vasp.input_set_generator, folder)
                make = type(self.vasp).make.original
                response = make(self._equipped(), structure, folder, **self.arguments)
            task = response.output
            check_program(task, is_rehearsal=self.is_rehearsal)
            check_convergence(task)
            check_moments_left(task)
            check_finite(task)
            if task.calcs_reversed[0].input.parameters["NSW"] <= 0:
                store_band_edges(task, Path.cwd())
        except Exception as error:  # noqa: BLE001 - whatever it is, the neighbours go on
            return Response(output=self._failure(error))
        return Response(output=task, stored_data=response.stored_data)

    def _equipped(self) -> BaseVaspMaker:
        """Give the Maker what depends on the machine and on the settings."""
        patience = self.frozen_seconds
        if self.is_rehearsal:
            patience = min(patience, STAND_IN_PATIENCE)
        handlers = [
            FrozenJobErrorHandler(timeout=patience)
            if isinstance(handler, FrozenJobErrorHandler)
            else handler
            for handler in DEFAULT_HANDLERS
        ]
        if (limit := self.max_seconds) is not None:
            reserve = min(300, max(60, limit // 10))
            handlers.append(WalltimeHandler(limit, reserve, electronic_step_stop=True))
        run = {
            "handlers": handlers,
            "validators": VALIDATORS,
            "max_errors": self.max_errors,
            **self.vasp.run_vasp_kwargs,
        }
        additional = self.vasp.write_additional_data
        if self.is_rehearsal:
            command = shlex.join(STAND_IN)
            run |= {"vasp_cmd": command, "vasp_gamma_cmd": command}
            run["custodian_kwargs"] = STAND_IN_POLLING
            additional = additional | {"rehearsal_settings:json": {"fail": self._drawn_failure()}}
        return replace(
            self.vasp,
            run_vasp_kwargs=run,
            write_additional_data=additional,
            # Whatever VASP_STORE_ADDITIONAL_JSON says: the stand-in is known by its file.
            task_document_kwargs=self.vasp.task_document_kwargs | {"store_additional_json": True},
        )

    def _drawn_failure(self) -> str | None:
        """Draw how this calculation fails, if at all; a second try in another folder is luckier."""
        draw = random.Random(str(Path.cwd())).random()  # noqa: S311
        for mode, share in self.failures.items():
            draw -= share
            if draw < 0:
                return mode
        return None

    @contextmanager
    def _environment(self, structure: Structure) -> Iterator[None]:
        os.environ.pop(WALLTIME_START, None)
        if not self.is_rehearsal:
            yield
            return
        from gan_htvs.rehearsal.potcar import placeholder_potcars  # noqa: PLC0415

        inputs = self.vasp.input_set_generator
        symbols = potcar_symbols(inputs, structure.symbol_set).values()
        with placeholder_potcars(symbols, inputs.user_potcar_functional):
            yield

    def _failure(self, error: Exception) -> CalculationFailure:
        corrections = corrections_in(Path.cwd())
        return CalculationFailure(
            step=self.vasp.name,
            reason=reason_of(error, corrections),
            folder=f"{socket.gethostname()}:{Path.cwd()}",
            corrections=corrections,
            is_retryable=is_retryable(error, corrections),
            job=CURRENT_JOB.job.uuid,
        )


def _taken_up(
    start: Start, magmoms: list[float] | None, *, is_reference: bool
) -> tuple[Structure, str | None]:
    """Find the structure to start from and the folder of the calculation that made it."""
    if start is None:
        raise CalculationError("the calculation before it left nothing")
    if isinstance(start, TaskDoc):
        return start.structure, strip_hostname(start.dir_name)
    structure, folder = start if isinstance(start, Structure) else start.structure, None
    if structure is None:
        raise CalculationError("the pre-relaxation left no structure")
    if problem := _flaw(start, structure, is_reference=is_reference):
        raise CalculationError(f"to start from: {problem}")
    if isinstance(start, Relaxed):
        magmoms, folder = start.magmoms, start.folder and strip_hostname(start.folder)
    plain = Structure(structure.lattice, structure.species, structure.frac_coords)
    if magmoms is not None:
        plain.add_site_property("magmom", magmoms)
    return plain, folder


def _flaw(start: Start, structure: Structure, *, is_reference: bool) -> str | None:
    """Return what is wrong with the geometry of a structure to start from, if anything."""
    if isinstance(start, Relaxed):
        return None  # the gate has checked it
    if not is_reference:
        return check_geometry(structure)
    # A potential may have taken it apart before VASP.
    before = getattr(start, "input", None)
    return unphysical_change(before.structure, structure) if before else None


def check_moments(structure: Structure, generator: VaspInputSet, folder: str | None = None) -> None:
    """Check that VASP will start from the moments of a structure, and write the final ones.

    What counts is the INCAR as atomate2 will write it, with the tags of its own settings. Orders
    were lost between steps before (atomate2 #505, pymatgen #3431), and a ferromagnetic oxide that
    was meant to be antiferromagnetic looks like any other.

    Parameters
    ----------
    structure
        With the site property ``magmom``, Bohr magnetons; without it there is nothing to carry.
    generator
        Makes the inputs.
    folder
        Of the calculation before.

    Raises
    ------
    CalculationError
        If MAGMOM would say something else, or LORBIT would leave no moments.
    UserError
        If the settings of atomate2 change the level of theory.
    """
    updates = incar_updates()
    incar = generator.get_input_set(structure, prev_dir=folder, potcar_spec=True).incar
    incar.update(updates)
    if incar.get("ISPIN") == POLARIZED and incar.get("LORBIT", 0) < LEAST_LORBIT:
        raise CalculationError(
            f"LORBIT = {incar.get('LORBIT', 0)} leaves no magnetic moments; set 10 or 11, or leave "
            "it out"
        )
    if "magmom" not in structure.site_properties:
        return
    # POSCAR is sorted by species, and MAGMOM with it.
    wanted = structure.get_sorted_structure().site_properties["magmom"]
    written = incar.get("MAGMOM")
    if incar.get("ISPIN") == 1 and np.abs(wanted).max() < NO_MOMENT:
        return  # the powerup use_auto_ispin
    if (
        written is None
        or np.shape(written) != np.shape(wanted)
        or (np.abs(np.subtract(written, wanted)).max() > MOMENT_TOLERANCE)
    ):
        raise CalculationError(f"MAGMOM would be {written}, and {wanted} was to be carried over")
