"""Energies of unrelaxed structures, a cheap estimate of which ones are worth a relaxation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pymatgen.io.ase import AseAtomsAdaptor

from gan_htvs.potentials.calculators import calculator_of
from gan_htvs.potentials.relaxer import denormals_flushed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from gan_htvs.potentials.relaxation_settings import PotentialSettings


def single_point_energies(
    structures: Sequence[Structure], potential: PotentialSettings
) -> NDArray[np.float64]:
    """Compute energies without relaxation, eV/atom, without corrections.

    Within one composition they rank structures as corrected energies do, except for peroxides.

    Parameters
    ----------
    structures
        Ordered structures.
    potential
        The interatomic potential; its other settings have no effect.

    Returns
    -------
    (n,); infinite if the potential fails.

    Raises
    ------
    UserError
        If the potential is not installed or cannot be loaded.
    """
    calculator = calculator_of(potential.name, **potential.arguments)
    # A potential with an own method computes no forces.
    compute = getattr(calculator, "energy_without_forces", calculator.get_potential_energy)
    energies = np.full(len(structures), np.inf)
    with denormals_flushed():
        for i, structure in enumerate(structures):
            atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
            # Potentials may raise anything; other structures go on.
            try:
                energy = float(compute(atoms)) / len(atoms)
            except Exception:  # noqa: BLE001, S112
                continue
            if np.isfinite(energy):
                energies[i] = energy
    return energies
