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

from gan_htvs.core.errors import CalculationError
from gan_htvs.potentials.calculators import calculator_of
from gan_htvs.potentials.corrections import energy_correction, level_of_theory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from launchers.rehearsal.inputs import Inputs

LEAST_START_MOMENT = 0.3
"""Atoms with smaller initial moments have no final moment, Bohr magnetons."""

KILOBAR = 0.1 * GPa
"""1 kB in eV/A^3."""

ELECTRONIC_STEPS = 12
"""Number of synthetic electronic steps per ionic step."""


@dataclass(frozen=True)
class IonicStep:
    """One evaluation of a structure.

    Attributes
    ----------
    number
        Number of the step, from 1.
    structure
        Structure with sites in the order of POSCAR.
    energies
        Energy of the cell after each electronic step, eV, without corrections, as in VASP.
    change
        Change of the energy since the previous step, eV; in the first step the energy.
    forces
        eV/A, shape (n_atoms, 3).
    stress
        In VASP's convention, kB, positive if the cell would expand, shape (3, 3).
    moments
        Bohr magnetons, shape (n_atoms,).
    is_converged
        Whether the ions are converged.
    """

    number: int
    structure: Structure
    energies: NDArray[np.float64]
    change: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]
    moments: NDArray[np.float64]
    is_converged: bool


def ionic_steps(inputs: Inputs, potential: str) -> Iterator[IonicStep]:
    """Yield ionic steps without end, the same one after convergence; the caller stops.

    Relaxations use quasi-Newton steps (BFGS) for every IBRION. For positive EDIFFG, ions are
    converged if the energy changes by less than EDIFFG, from the second step on. For negative
    EDIFFG, they are converged if no force (and no stress times cell, if the cell relaxes) exceeds
    -EDIFFG. Moments have the signs of MAGMOM and the sizes of the potential, or else of MAGMOM.

    Parameters
    ----------
    inputs
        Initial structure and convergence criteria.
    potential
        Name of a potential of :mod:`gan_htvs.potentials.calculators`.
    """
    ediffg, nelm = inputs.parameters["EDIFFG"], inputs.parameters["NELM"]
    atoms = AseAtomsAdaptor.get_atoms(inputs.structure, msonable=False)
    atoms.calc = calculator_of(potential)
    target = FrechetCellFilter(atoms) if inputs.moves_cell else atoms
    optimizer = BFGS(target, logfile=None)
    correction = contained_correction(inputs.structure, potential)
    above = np.append(np.geomspace(1, inputs.parameters["EDIFF"] / 2, ELECTRONIC_STEPS - 1), 0)
    previous = 0.0
    is_converged = False
    for number in count(1):
        energy = float(atoms.get_potential_energy()) - correction
        change = energy - previous
        largest_force = np.linalg.norm(target.get_forces(), axis=1).max()
        is_small = largest_force < -ediffg if ediffg < 0 else number > 1 and abs(change) < ediffg
        is_converged = is_converged or bool(is_small)
        sizes = np.abs(atoms.calc.results.get("magmoms", inputs.moments))
        is_magnetic = np.abs(inputs.moments) > LEAST_START_MOMENT
        yield IonicStep(
            number=number,
            structure=AseAtomsAdaptor.get_structure(atoms, cls=type(inputs.structure)),
            energies=energy + above[:nelm],
            change=change,
            forces=atoms.get_forces(apply_constraint=False),
            stress=-atoms.get_stress(voigt=False) / KILOBAR,
            moments=np.where(is_magnetic, np.sign(inputs.moments) * sizes, 0.0),
            is_converged=is_converged,
        )
        previous = energy
        if not is_converged:
            optimizer.step()


def contained_correction(structure: Structure, potential: str) -> float:
    """Compute the MP2020 correction that the energies of a potential contain, eV for the cell.

    VASP's energies are uncorrected; the correction is added to them later.
    """
    if not level_of_theory(potential).is_corrected:
        return 0.0
    try:
        return len(structure) * energy_correction(structure, 0.0, "vasp")
    except CalculationError:  # the potential has no correction for such a compound either
        return 0.0
