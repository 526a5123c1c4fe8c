"""A first guess of how stiff a crystal is: springs between neighbours.

A quasi-Newton optimizer starts from it and learns the rest. Springs get weaker with distance, as in
the model Hessian of Lindh et al. (Chem. Phys. Lett. 1995, 241, 423) and the preconditioner of
Packwood et al. (J. Chem. Phys. 2016, 144, 164109), here with strain: a cell that gets longer
stretches the springs along it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

CUTOFF = 5.0
"""A."""
STRENGTH = 2.0
"""Of a spring between atoms that touch, eV/A^2."""
DECAY = 3.0
"""Over what two radii make together; e times weaker at 4/3 of it."""
SIDEWAYS = 0.1
"""Stiffness across a spring, as a share of that along it."""
_COINCIDENT = 0.1


def spring_hessian(atoms: Atoms) -> NDArray[np.float64]:
    """Second derivatives of the energy of the springs.

    Returns
    -------
    (3 n + 9, 3 n + 9): atoms, then strain in rows, eV/A^2, eV/A and eV.
    """
    n = len(atoms)
    first, second, vectors = neighbor_list("ijD", atoms, CUTOFF)
    distances = np.maximum(np.linalg.norm(vectors, axis=1), _COINCIDENT)
    touching = covalent_radii[atoms.numbers[first]] + covalent_radii[atoms.numbers[second]]
    strengths = STRENGTH * np.exp(-DECAY * (distances / touching - 1))
    along = vectors / distances[:, None]
    springs = (1 - SIDEWAYS) * along[:, :, None] * along[:, None, :] + SIDEWAYS * np.eye(3)
    springs *= strengths[:, None, None] / 2  # the list has each pair twice
    pairs = np.zeros((n, n, 3, 3))
    for i, j, sign in (
        (first, first, 1),
        (second, second, 1),
        (first, second, -1),
        (second, first, -1),
    ):
        np.add.at(pairs, (i, j), sign * springs)
    stretched = springs[:, :, :, None] * vectors[:, None, None, :]
    with_strain = np.zeros((n, 3, 3, 3))
    np.add.at(with_strain, second, stretched)
    np.add.at(with_strain, first, -stretched)
    hessian = np.empty((3 * n + 9, 3 * n + 9))
    hessian[:-9, :-9] = pairs.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
    hessian[:-9, -9:] = with_strain.reshape(3 * n, 9)
    hessian[-9:, :-9] = hessian[:-9, -9:].T
    hessian[-9:, -9:] = np.einsum(
        "mac,mb,md->abcd", springs, vectors, vectors, optimize=True
    ).reshape(9, 9)
    return hessian
