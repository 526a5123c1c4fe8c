"""Initial Hessian of a quasi-Newton optimizer: springs between neighbors.

Springs get weaker with distance, as in
the model Hessian of Lindh et al. (Chem. Phys. Lett. 1995, 241, 423) and the preconditioner of
Packwood et al. (J. Chem. Phys. 2016, 144, 164109), here with strain: a longer cell stretches the
springs along it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list
from scipy import sparse

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

CUTOFF = 5.0
"""Longest spring, A."""
STRENGTH = 2.0
"""Stiffness of a spring between touching atoms, eV/A^2."""
DECAY = 3.0
"""Decay per sum of covalent radii; at 4/3 of it the stiffness is e times smaller."""
SIDEWAYS = 0.1
"""Stiffness across a spring relative to that along it."""
_COINCIDENT = 0.1


def spring_hessian(atoms: Atoms) -> NDArray[np.float64]:
    """Compute second derivatives of the energy of the springs.

    Returns
    -------
    (3 n + 9, 3 n + 9): atoms, then rows of the strain, eV/A^2, eV/A and eV.
    """
    n = len(atoms)
    first, second, vectors = neighbor_list("ijD", atoms, CUTOFF)
    distances = np.maximum(np.linalg.norm(vectors, axis=1), _COINCIDENT)
    touching = covalent_radii[atoms.numbers[first]] + covalent_radii[atoms.numbers[second]]
    strengths = STRENGTH * np.exp(-DECAY * (distances / touching - 1))
    along = vectors / distances[:, None]
    springs = (1 - SIDEWAYS) * along[:, :, None] * along[:, None, :] + SIDEWAYS * np.eye(3)
    springs *= strengths[:, None, None] / 2  # each pair is in the list twice
    n_springs = len(springs)
    numbers = np.arange(n_springs)
    ends = sparse.coo_array((np.ones(n_springs), (numbers, second)), (n_springs, n))
    ends -= sparse.coo_array((np.ones(n_springs), (numbers, first)), (n_springs, n))
    # Derivative of the vector of each spring: (3 n_springs, 3 n + 9).
    by_strain = np.einsum("xa,mb->mxab", np.eye(3), vectors).reshape(-1, 9)
    changes = sparse.hstack([sparse.kron(ends, np.eye(3)), by_strain], format="csr")
    blocks = (springs, numbers, np.arange(n_springs + 1))
    stiffness = sparse.bsr_array(blocks, shape=(3 * n_springs, 3 * n_springs))
    return (changes.T @ stiffness @ changes).toarray()
