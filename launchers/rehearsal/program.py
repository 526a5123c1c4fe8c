"""The stand-in for ``vasp_std``: standard output, files and exit code."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.io.vasp.inputs import Poscar

from gan_htvs.core.errors import UserError
from launchers.rehearsal import outputs, vasprun
from launchers.rehearsal.calculation import ionic_steps
from launchers.rehearsal.failure_modes import (
    AFTER_FIRST_STEP,
    FailureMode,
    fail_after_first_step,
    fail_at_end,
    failure_of_run,
)
from launchers.rehearsal.inputs import read_inputs
from launchers.rehearsal.labels import NOTICE
from launchers.rehearsal.spectrum import spectrum_of

if TYPE_CHECKING:
    from pathlib import Path

    from launchers.rehearsal.inputs import Inputs

POTENTIAL = "chgnet"
"""Potential for energies, forces and sizes of moments."""

_print = partial(print, flush=True)


def run(folder: Path, potential: str = POTENTIAL) -> int:
    """Run the stand-in in a folder, with an interatomic potential.

    Parameters
    ----------
    folder
        Folder with INCAR, POSCAR, POTCAR and KPOINTS.
    potential
        Name of a potential of :mod:`gan_htvs.potentials.calculators`.

    Returns
    -------
    int
        The exit code.
    """
    try:
        inputs = read_inputs(folder)
        return _calculate(folder, inputs, potential, failure_of_run(folder))
    except UserError as error:
        _print(f" {error}\n I REFUSE TO CONTINUE WITH THIS SICK JOB ... BYE!!!")
        return 1


def _calculate(folder: Path, inputs: Inputs, potential: str, failure: FailureMode | None) -> int:
    xml, outcar, oszicar = (folder / name for name in ("vasprun.xml", "OUTCAR", "OSZICAR"))
    for path in (xml, outcar, oszicar):
        path.unlink(missing_ok=True)
    _print(outputs.GREETING)
    _append(xml, vasprun.opening(inputs))
    _append(outcar, outputs.outcar_opening(inputs))
    for step in ionic_steps(inputs, potential):
        if failure == FailureMode.UNCONVERGED:
            step = replace(step, is_converged=False)  # noqa: PLW2901
        is_stopped = _is_stopped(folder)
        is_last = step.is_converged or is_stopped or step.number == inputs.n_ionic_steps
        if is_last and failure == FailureMode.ELECTRONIC:
            oscillation = 0.1 * np.cos(np.pi * np.arange(inputs.parameters["NELM"]))
            step = replace(step, energies=step.energies[-1] + oscillation)  # noqa: PLW2901
        spectrum = spectrum_of(inputs, step.structure.lattice, step.moments)
        magnetization = spectrum.magnetization if inputs.n_spins > 1 else None
        lines = outputs.oszicar_step(step, magnetization)
        _print(lines)
        _append(oszicar, f"{outputs.HEADER}\n{lines}")
        _append(outcar, outputs.outcar_step(inputs, step, magnetization))
        poscar = Poscar(step.structure, comment=NOTICE)
        poscar.write_file(folder / "CONTCAR", significant_figures=16)
        if failure in AFTER_FIRST_STEP:
            return fail_after_first_step(failure)
        _append(xml, vasprun.ionic_step(step, spectrum if is_last else None))
        if is_last:
            break
    _append(outcar, outputs.outcar_end(inputs, step, spectrum, is_stopped=is_stopped))
    _append(xml, vasprun.closing(step.structure))
    if inputs.parameters["LCHARG"]:
        (folder / "CHGCAR").write_text(f"{poscar.get_str()}\n    1    1    1\n 0.0\n", "utf-8")
    if inputs.parameters["LWAVE"]:
        (folder / "WAVECAR").write_text(f"{NOTICE}\n", encoding="utf-8")
    if step.is_converged:
        _print(f" {outputs.CONVERGED}")
    fail_at_end(failure, xml)
    return 0


def _is_stopped(folder: Path) -> bool:
    """Return whether STOPCAR sets LSTOP or LABORT."""
    stopcar = folder / "STOPCAR"
    return stopcar.is_file() and ".TRUE." in stopcar.read_text(encoding="utf-8").upper()


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")
