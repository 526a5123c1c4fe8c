"""What is computed in place of VASP: ionic steps on the energies of an interatomic potential."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.units import GPa
from pymatgen.io.ase import AseAtomsAdaptor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ase.calculators.calculator import Calculator
    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from gan_htvs.rehearsal.inputs import Inputs

LEAST_START_MOMENT = 0.3
"""Atoms that start with less end with no moment, Bohr magnetons."""

KILOBAR = 0.1 * GPa
"""In eV/A^3."""

FIRST_STEPS, FURTHER_STEPS = 14, 7
"""Electronic steps of the first ionic step and of those that start from its charge density; an
assumption."""

POLARIZED_STEPS, HYBRID_STEPS = 4, 8
"""What spin polarisation and exact exchange add to either; an assumption."""


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
        Of the cell, eV.
    change
        Of the energy since the last step, eV; in the first the energy.
    forces
        eV/A, shape (n_atoms, 3).
    stress
        As VASP writes it, kB, positive if the cell wants to expand, shape (3, 3).
    moments
        Bohr magnetons, shape (n_atoms,).
    electronic_energies
        One for each electronic step, eV.
    is_converged
        Whether the ions are.
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


def ionic_steps(
    inputs: Inputs, calculator: Calculator, *, goes_on: bool = False
) -> Iterator[IonicStep]:
    """Evaluate or relax, for ever: who reads decides when it is enough.

    Relaxations are by quasi-Newton steps (BFGS) whatever IBRION says. Ions are converged, from the
    second step on, if the energy changes by less than EDIFFG, or at once if no force, nor stress
    times cell where the cell moves, exceeds -EDIFFG.

    Parameters
    ----------
    inputs
        Where it starts and when it is converged.
    calculator
        Of an interatomic potential.
    goes_on
        Never converge: repeat the last step instead.
    """
    atoms = AseAtomsAdaptor.get_atoms(inputs.structure, msonable=False)
    atoms.calc = calculator
    target = FrechetCellFilter(atoms) if inputs.moves_cell else atoms
    optimizer = BFGS(target, logfile=None)
    before = 0.0
    is_still = False
    for number in count(1):
        energy = float(atoms.get_potential_energy())
        change = energy - before
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
        before = energy
        if not is_still:
            optimizer.step()


def n_electronic_steps(inputs: Inputs, number: int) -> int:
    """Electronic steps that an ionic step would take, by assumption, NELM or more if too many."""
    steps = FIRST_STEPS if number == 1 else FURTHER_STEPS
    steps += POLARIZED_STEPS * inputs.is_polarized + HYBRID_STEPS * inputs.is_hybrid
    return max(steps, int(inputs.incar.get("NELMIN", 2)))


def _is_converged(inputs: Inputs, number: int, change: float, largest_force: float) -> bool:
    if inputs.ediffg < 0:
        return largest_force < -inputs.ediffg
    return number > 1 and abs(change) < inputs.ediffg


def _electronic_energies(inputs: Inputs, number: int, energy: float) -> NDArray[np.float64]:
    """Energies that fall to the last one, from half of it to within EDIFF."""
    wanted = n_electronic_steps(inputs, number)
    start = max(abs(energy) / 2, 10 * inputs.ediff)
    above = np.append(np.geomspace(start, inputs.ediff / 2, wanted - 1), 0.0)
    return energy + above[: inputs.nelm]


def _moments(inputs: Inputs, calculator: Calculator) -> NDArray[np.float64]:
    """Moments as large as the potential has them, or as they started, with the signs of MAGMOM."""
    starts = inputs.moments
    sizes = np.abs(calculator.results.get("magmoms", starts))
    return np.where(np.abs(starts) > LEAST_START_MOMENT, np.sign(starts) * sizes, 0.0)
