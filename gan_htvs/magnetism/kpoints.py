"""k-point meshes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gan_htvs.structures.superlattices import space_group_operations

if TYPE_CHECKING:
    from pymatgen.core import Structure

SHORTFALL = 0.02
"""Accepted relative shortfall of the period of a k-point mesh: for a hundredth, as in ilmenite, the
next mesh is not worthwhile, since a hybrid calculation would take about eight times as long."""


def kpoint_mesh(structure: Structure, length: float) -> tuple[int, int, int]:
    """Return the smallest Gamma-centered mesh of a given period, with full symmetry.

    The supercell of n1 x n2 x n3 cells has no lattice vector shorter than ``length`` (Moreno and
    Soler, Phys. Rev. B 45, 13891 (1992)); in an orthorhombic cell that is n * a >= ``length``.
    Therefore an acute cell, such as that of antiferromagnetic MnO, gets the mesh of the smaller
    cell with which its energy is compared. If the lattice symmetry mixes axes of different length,
    all get the largest number.

    Parameters
    ----------
    structure
        Primitive cell.
    length
        Smallest period of the mesh, A.
    """
    mesh = np.array([max(1, math.ceil(length / a - 1e-6)) for a in structure.lattice.abc])
    rotations, _ = space_group_operations(structure)
    steps = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), axis=-1).reshape(-1, 3)
    steps = steps[np.any(steps, axis=1)]
    while True:
        # A rotation W of positions acts on k points as W^-T; the mesh is invariant if W^-T maps
        # multiples of 1/n onto each other.
        images = rotations.transpose(0, 2, 1) * mesh[None, :, None] / mesh[None, None, :]
        if not np.allclose(images, images.round()):
            mesh[:] = mesh.max()
        distances = np.linalg.norm((steps * mesh) @ structure.lattice.matrix, axis=1)
        nearest = int(distances.argmin())
        if distances[nearest] >= length * (1 - SHORTFALL):
            return (int(mesh[0]), int(mesh[1]), int(mesh[2]))
        mesh += steps[nearest] != 0
