"""Symmetry-inequivalent superlattices, as integer arrays.

They are enumerated by Hermite normal forms (Hart & Forcade, Phys. Rev. B 2008, 77, 224115), with
the symmetry operations of spglib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import spglib

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.core import Structure

SYMPREC = 1e-2
"""Distance within which sites are symmetry-equivalent, A; AFLOW coordinates have 3-5 digits."""

INTEGRAL = 1e-4
"""Largest error of fractional coordinates that are treated as integers."""


def hermite_normal_forms(index: int) -> NDArray[np.int64]:
    """List the upper-triangular bases of all superlattices with ``index`` cells; (n, 3, 3)."""
    forms = [
        [[a, b, c], [0, d, e], [0, 0, f]]
        for a in range(1, index + 1)
        if index % a == 0
        for d in range(1, index // a + 1)
        if (index // a) % d == 0
        for f in [index // (a * d)]
        for b in range(d)
        for c in range(f)
        for e in range(f)
    ]
    return np.array(forms, dtype=np.int64)


def inequivalent_superlattices(index: int, structure: Structure) -> NDArray[np.int64]:
    """List one superlattice of each equivalence class under the point group of ``structure``.

    Parameters
    ----------
    index
        Number of primitive cells in the superlattice.
    structure
        Primitive cell.

    Returns
    -------
    (n, 3, 3): rows are supercell vectors in units of the cell vectors. The most compact comes
    first, then the most symmetric, then the second most compact, and so on.
    """
    forms = hermite_normal_forms(index)
    rotations = np.unique(space_group_operations(structure)[0], axis=0).astype(float)
    # A rotation W of column coordinates maps the row basis H to H W^T; two bases span the same
    # lattice if the coordinates of one in the other are integers.
    inverses = np.linalg.inv(forms)
    kept: list[int] = []
    symmetry_orders: list[int] = []
    equivalent = np.zeros(len(forms), dtype=bool)
    for i, form in enumerate(forms):
        if equivalent[i]:
            continue
        kept.append(i)
        images = form @ rotations.transpose(0, 2, 1)
        coordinates = np.einsum("rij,njk->nrik", images, inverses)
        maps_to = (np.abs(coordinates - coordinates.round()) < INTEGRAL).all(axis=(2, 3))
        symmetry_orders.append(int(maps_to[i].sum()))
        equivalent |= maps_to.any(axis=1)
    cells = forms[kept].astype(float) @ structure.lattice.matrix
    # Rounded, so that equal sums keep the order of enumeration on every machine.
    sizes = np.round([np.square(spglib.niggli_reduce(cell)).sum() for cell in cells], 4)
    by_size = np.argsort(sizes, kind="stable")
    by_symmetry = np.lexsort((sizes, -np.array(symmetry_orders)))
    interleaved = np.stack([by_size, by_symmetry], axis=1).ravel().tolist()
    return forms[kept][list(dict.fromkeys(interleaved))]


def space_group_operations(structure: Structure) -> tuple[NDArray, NDArray]:
    """Return the rotations (m, 3, 3) and translations (m, 3) in fractional coordinates."""
    numbers = [site.specie.Z for site in structure]
    cell = (structure.lattice.matrix, structure.frac_coords, numbers)
    symmetry = spglib.get_symmetry(cell, symprec=SYMPREC)
    if symmetry is None:
        return np.eye(3, dtype=int)[None], np.zeros((1, 3))
    return symmetry["rotations"], symmetry["translations"]
