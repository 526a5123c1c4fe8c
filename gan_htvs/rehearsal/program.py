"""What ``vasp_std`` does, from the first line that it prints to its exit code."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gan_htvs.errors import UserError
from gan_htvs.files import write_atomically
from gan_htvs.potentials import calculator_of
from gan_htvs.rehearsal.calculation import ionic_steps
from gan_htvs.rehearsal.cost import COST_FILE, cost_of
from gan_htvs.rehearsal.errors import InputError
from gan_htvs.rehearsal.failures import (
    FailureMode,
    count_run,
    fail_after_first_step,
    fail_at_end,
    read_settings,
)
from gan_htvs.rehearsal.inputs import read_inputs
from gan_htvs.rehearsal.outputs import (
    CONVERGED,
    GREETING,
    HEADER,
    Outcar,
    electronic_lines,
    summary_line,
    write_contcar,
    write_final_files,
)
from gan_htvs.rehearsal.spectrum import spectrum_of
from gan_htvs.rehearsal.vasprun import VasprunXml

if TYPE_CHECKING:
    from pathlib import Path

    from gan_htvs.rehearsal.calculation import IonicStep
    from gan_htvs.rehearsal.failures import RehearsalSettings
    from gan_htvs.rehearsal.inputs import Inputs


def run(folder: Path) -> int:
    """Do what VASP does in a folder, with an interatomic potential.

    Parameters
    ----------
    folder
        With INCAR, POSCAR, POTCAR, KPOINTS and maybe ``rehearsal_settings.json``.

    Returns
    -------
    The exit code.
    """
    try:
        settings = read_settings(folder)
        inputs = read_inputs(folder)
        failure = settings.failure_of(count_run(folder))
        return _calculate(folder, inputs, settings, failure)
    except (InputError, UserError) as error:
        _print(f" {error}\n I REFUSE TO CONTINUE WITH THIS SICK JOB ... BYE!!!")
        return 1


def _calculate(
    folder: Path, inputs: Inputs, settings: RehearsalSettings, failure: FailureMode | None
) -> int:
    poscar = inputs.poscar
    _print(GREETING.format(n_types=len(poscar.natoms), n_atoms=sum(poscar.natoms)))
    vasprun = VasprunXml(folder / "vasprun.xml", inputs)
    outcar = Outcar(folder / "OUTCAR", inputs)
    oszicar = folder / "OSZICAR"
    oszicar.write_text("", encoding="utf-8")
    steps: list[IonicStep] = []
    never_converges = failure == FailureMode.UNCONVERGED
    for step in ionic_steps(inputs, calculator_of(settings.potential), goes_on=never_converges):
        time.sleep(settings.seconds_per_step)
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
    cost = cost_of(
        inputs,
        potential=settings.potential,
        n_ionic_steps=len(steps),
        n_electronic_steps=sum(len(each.electronic_energies) for each in steps),
    )
    write_atomically(folder / COST_FILE, cost.model_dump_json(indent=2).encode())
    _print(" writing wavefunctions")
    if failure:
        fail_at_end(failure, folder / "vasprun.xml")
    return 0


def _without_electronic_convergence(step: IonicStep, nelm: int) -> IonicStep:
    """Let the electronic energies sway until NELM is reached."""
    sway = 0.1 * np.cos(np.pi * np.arange(nelm))
    return replace(step, electronic_energies=step.energy + sway, is_electronically_converged=False)


def _is_stopped(folder: Path) -> bool:
    """Whether somebody asks to stop, by LSTOP or LABORT in STOPCAR."""
    stopcar = folder / "STOPCAR"
    return stopcar.is_file() and ".TRUE." in stopcar.read_text(encoding="utf-8").upper()


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
