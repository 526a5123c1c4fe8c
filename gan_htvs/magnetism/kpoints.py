"""k-point meshes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gan_htvs.structures.superlattices import space_group_operations

if TYPE_CHECKING:
    from pymatgen.core import Structure

SHORTFALL = 0.02
"""Share of the wanted length that a diagonal of a k mesh may lack: a hundredth, as in ilmenite,
is not worth the next mesh, on which a hybrid costs about eight times as much."""


def kpoint_mesh(structure: Structure, length: float) -> tuple[int, int, int]:
    """Choose a small Gamma-centered mesh that serves a length, with full symmetry.

    The n1 x n2 x n3 cells that the mesh makes periodic hold no lattice vector shorter than
    ``length`` (Moreno and Soler, Phys. Rev. B 45, 13891 (1992)); for a box that is n * a >=
    ``length``. An acute cell, such as that of antiferromagnetic MnO, so gets the mesh of the
    smaller cell that its energy is compared with. Where the lattice symmetry mixes axes of
    different length, all get the largest number.

    Parameters
    ----------
    structure
        Primitive cell.
    length
        In A.
    """
    mesh = np.array([max(1, math.ceil(length / a - 1e-6)) for a in structure.lattice.abc])
    rotations, _ = space_group_operations(structure)
    steps = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), axis=-1).reshape(-1, 3)
    steps = steps[np.any(steps, axis=1)]
    while True:
        # A rotation W of positions acts on k points as W^-T; the mesh is invariant if that maps
        # multiples of 1/n onto each other.
        images = rotations.transpose(0, 2, 1) * mesh[None, :, None] / mesh[None, None, :]
        if not np.allclose(images, images.round()):
            mesh[:] = mesh.max()
        distances = np.linalg.norm((steps * mesh) @ structure.lattice.matrix, axis=1)
        nearest = int(distances.argmin())
        if distances[nearest] >= length * (1 - SHORTFALL):
            return (int(mesh[0]), int(mesh[1]), int(mesh[2]))
        mesh += steps[nearest] != 0
