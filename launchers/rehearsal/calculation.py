"""Calculation of the stand-in: ionic steps with energies of an interatomic potential."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.units import GPa
from pymatgen.io.ase import AseAtomsAdaptor

from gan_htvs.errors import CalculationError
from gan_htvs.thermodynamics.corrections import energy_correction, level_of_theory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ase.calculators.calculator import Calculator
    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from launchers.rehearsal.inputs import Inputs

LEAST_START_MOMENT = 0.3
"""Atoms with smaller initial moments end without one, Bohr magnetons."""

KILOBAR = 0.1 * GPa
"""1 kB in eV/A^3."""

FIRST_STEPS, FURTHER_STEPS = 14, 7
"""Electronic steps of the first ionic step and of those that start from its charge density; an
assumption."""

POLARIZED_STEPS, HYBRID_STEPS = 4, 8
"""Additional steps for spin polarization and exact exchange; an assumption."""


@dataclass(frozen=True)
class IonicStep:
    """One evaluation of a structure.

    Attributes
    ----------
    number
        From 1.
    structure
        Sites in the order of POSCAR.
    energy
        Energy of the cell, eV, without corrections, as VASP's is.
    change
        Change of the energy since the previous step, eV; in the first step the energy.
    forces
        eV/A, shape (n_atoms, 3).
    stress
        In VASP's convention, kB, positive if the cell would expand, shape (3, 3).
    moments
        Bohr magnetons, shape (n_atoms,).
    electronic_energies
        One for each electronic step, eV.
    is_converged
        Whether the ions are converged.
    is_electronically_converged
        Whether there were fewer electronic steps than NELM.
    """

    number: int
    structure: Structure
    energy: float
    change: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]
    moments: NDArray[np.float64]
    electronic_energies: NDArray[np.float64]
    is_converged: bool
    is_electronically_converged: bool


def contained_correction(structure: Structure, potential: str) -> float:
    """Compute the MP2020 correction that the energies of a potential contain, eV for the cell.

    VASP's energies are raw, and the correction is added to them later.
    """
    if not level_of_theory(potential).is_corrected:
        return 0.0
    try:
        return len(structure) * energy_correction(structure, 0.0, "vasp")
    except CalculationError:  # no correction is added to such a compound either
        return 0.0


def ionic_steps(
    inputs: Inputs, calculator: Calculator, *, correction: float = 0.0, goes_on: bool = False
) -> Iterator[IonicStep]:
    """Yield ionic steps without end; the caller stops.

    Relaxations use quasi-Newton steps (BFGS) for each IBRION. Ions are converged, from the second
    step on, if the energy changes by less than EDIFFG, or, for negative EDIFFG, if no force, nor
    stress times cell if the cell moves, exceeds -EDIFFG.

    Parameters
    ----------
    inputs
        Initial structure and convergence criteria.
    calculator
        Calculator of an interatomic potential.
    correction
        Subtracted from its energies, eV.
    goes_on
        Whether to repeat the last step instead of converging.
    """
    atoms = AseAtomsAdaptor.get_atoms(inputs.structure, msonable=False)
    atoms.calc = calculator
    target = FrechetCellFilter(atoms) if inputs.moves_cell else atoms
    optimizer = BFGS(target, logfile=None)
    previous = 0.0
    is_still = False
    for number in count(1):
        energy = float(atoms.get_potential_energy()) - correction
        change = energy - previous
        largest_force = float(np.linalg.norm(target.get_forces(), axis=1).max())
        is_still = is_still or _is_converged(inputs, number, change, largest_force)
        energies = _electronic_energies(inputs, number, energy)
        yield IonicStep(
            number=number,
            structure=AseAtomsAdaptor.get_structure(atoms, cls=type(inputs.structure)),
            energy=energy,
            change=change,
            forces=atoms.get_forces(apply_constraint=False),
            stress=-atoms.get_stress(voigt=False) / KILOBAR,
            moments=_moments(inputs, calculator),
            electronic_energies=energies,
            is_converged=is_still and not goes_on,
            is_electronically_converged=len(energies) < inputs.nelm,
        )
        previous = energy
        if not is_still:
            optimizer.step()


def n_electronic_steps(inputs: Inputs, number: int) -> int:
    """Return the assumed number of electronic steps, not limited by NELM."""
    steps = FIRST_STEPS if number == 1 else FURTHER_STEPS
    steps += POLARIZED_STEPS * inputs.is_polarized + HYBRID_STEPS * inputs.is_hybrid
    return max(steps, int(inputs.incar.get("NELMIN", 2)))


def _is_converged(inputs: Inputs, number: int, change: float, largest_force: float) -> bool:
    if inputs.ediffg < 0:
        return largest_force < -inputs.ediffg
    return number > 1 and abs(change) < inputs.ediffg


def _electronic_energies(inputs: Inputs, number: int, energy: float) -> NDArray[np.float64]:
    """Return energies that decrease to the last one, from half of it to within EDIFF."""
    n_steps = n_electronic_steps(inputs, number)
    start = max(abs(energy) / 2, 10 * inputs.ediff)
    above = np.append(np.geomspace(start, inputs.ediff / 2, n_steps - 1), 0.0)
    return energy + above[: inputs.nelm]


def _moments(inputs: Inputs, calculator: Calculator) -> NDArray[np.float64]:
    """Return moments with the sizes of the potential, or of MAGMOM, and the signs of MAGMOM."""
    starts = inputs.moments
    sizes = np.abs(calculator.results.get("magmoms", starts))
    return np.where(np.abs(starts) > LEAST_START_MOMENT, np.sign(starts) * sizes, 0.0)
