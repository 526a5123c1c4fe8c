"""The stand-in for ``vasp_std``: standard output, files and exit code."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gan_htvs.errors import UserError
from gan_htvs.potentials import calculator_of
from launchers.rehearsal.calculation import contained_correction, ionic_steps
from launchers.rehearsal.errors import InputError
from launchers.rehearsal.failures import (
    FailureMode,
    fail_after_first_step,
    fail_at_end,
    failure_of_run,
)
from launchers.rehearsal.inputs import read_inputs
from launchers.rehearsal.outputs import (
    CONVERGED,
    GREETING,
    HEADER,
    Outcar,
    electronic_lines,
    summary_line,
    write_contcar,
    write_final_files,
)
from launchers.rehearsal.spectrum import spectrum_of
from launchers.rehearsal.vasprun import VasprunXml

if TYPE_CHECKING:
    from pathlib import Path

    from launchers.rehearsal.calculation import IonicStep
    from launchers.rehearsal.inputs import Inputs


POTENTIAL = "chgnet"
"""Source of energies, forces and sizes of moments."""


def run(folder: Path, potential: str = POTENTIAL) -> int:
    """Run the stand-in in a folder, with an interatomic potential.

    Parameters
    ----------
    folder
        Folder with INCAR, POSCAR, POTCAR and KPOINTS.
    potential
        Name of a potential of :mod:`gan_htvs.potentials`.

    Returns
    -------
    The exit code.
    """
    try:
        inputs = read_inputs(folder)
        return _calculate(folder, inputs, potential, failure_of_run(folder))
    except (InputError, UserError) as error:
        _print(f" {error}\n I REFUSE TO CONTINUE WITH THIS SICK JOB ... BYE!!!")
        return 1


def _calculate(folder: Path, inputs: Inputs, potential: str, failure: FailureMode | None) -> int:
    poscar = inputs.poscar
    _print(GREETING.format(n_types=len(poscar.natoms), n_atoms=sum(poscar.natoms)))
    vasprun = VasprunXml(folder / "vasprun.xml", inputs)
    outcar = Outcar(folder / "OUTCAR", inputs)
    oszicar = folder / "OSZICAR"
    oszicar.write_text("", encoding="utf-8")
    steps: list[IonicStep] = []
    never_converges = failure == FailureMode.UNCONVERGED
    correction = contained_correction(inputs.structure, potential)
    for step in ionic_steps(
        inputs, calculator_of(potential), correction=correction, goes_on=never_converges
    ):
        is_stopped = _is_stopped(folder)
        is_last = step.is_converged or is_stopped or step.number == inputs.n_ionic_steps
        if is_last and failure == FailureMode.ELECTRONIC:
            step = _without_electronic_convergence(step, inputs.nelm)  # noqa: PLW2901
        steps.append(step)
        spectrum = spectrum_of(inputs, step.structure.lattice, step.moments)
        magnetization = spectrum.magnetization if inputs.is_polarized else None
        lines = [*electronic_lines(step), summary_line(step, magnetization)]
        with oszicar.open("a", encoding="utf-8") as file:
            file.write("\n".join([HEADER, *lines, ""]))
        _print("\n".join(lines))
        outcar.add(step, magnetization)
        write_contcar(folder, step.structure)
        if failure and failure.is_after_first_step:
            return fail_after_first_step(failure)
        vasprun.add(step, spectrum if is_last else None)
        if is_last:
            break
    if step.is_converged and inputs.n_ionic_steps > 1:
        _print(f" {CONVERGED}")
    outcar.close(step, spectrum, is_stopped=is_stopped)
    vasprun.close(step.structure)
    write_final_files(folder, inputs, steps, spectrum)
    _print(" writing wavefunctions")
    if failure:
        fail_at_end(failure, folder / "vasprun.xml")
    return 0


def _without_electronic_convergence(step: IonicStep, nelm: int) -> IonicStep:
    """Return a step whose electronic energies oscillate until NELM is reached."""
    sway = 0.1 * np.cos(np.pi * np.arange(nelm))
    return replace(step, electronic_energies=step.energy + sway, is_electronically_converged=False)


def _is_stopped(folder: Path) -> bool:
    """Return whether STOPCAR has LSTOP or LABORT."""
    stopcar = folder / "STOPCAR"
    return stopcar.is_file() and ".TRUE." in stopcar.read_text(encoding="utf-8").upper()


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
