"""Symmetry-inequivalent superlattices and orderings, as integer arrays.

Superlattices are enumerated by Hermite normal forms and orderings by orbits of site colourings
(Hart & Forcade, Phys. Rev. B 2008, 77, 224115), with the symmetry operations of spglib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import spglib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pymatgen.core import Structure

SYMPREC = 1e-2
"""Distance within which sites are symmetry-equivalent, A; AFLOW coordinates have 3-5 digits."""

_ROUNDING = 1e-4
"""Error of fractional coordinates that count as integers."""

_EXACT = 2**53
"""Integers below are exact as floats."""

_CHUNK = 2_000_000
"""Array elements that the canonical form may hold at once."""


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
    """Keep one superlattice of each class under the point group of ``structure``.

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
    # A rotation W of column coordinates takes the row basis H to H W^T; two bases span the same
    # lattice if one in terms of the other is integral.
    inverses = np.linalg.inv(forms)
    kept: list[int] = []
    symmetry_orders: list[int] = []
    equivalent = np.zeros(len(forms), dtype=bool)
    for i, form in enumerate(forms):
        if equivalent[i]:
            continue
        kept.append(i)
        images = form @ rotations.transpose(0, 2, 1)
        in_terms = np.einsum("rij,njk->nrik", images, inverses)
        maps_to = (np.abs(in_terms - in_terms.round()) < _ROUNDING).all(axis=(2, 3))
        symmetry_orders.append(int(maps_to[i].sum()))
        equivalent |= maps_to.any(axis=1)
    cells = forms[kept].astype(float) @ structure.lattice.matrix
    # Rounded, so that equal sums of different machines sort by the order of enumeration.
    sizes = np.round([np.square(spglib.niggli_reduce(cell)).sum() for cell in cells], 4)
    by_size = np.argsort(sizes, kind="stable")
    by_symmetry = np.lexsort((sizes, -np.array(symmetry_orders)))
    interleaved = np.stack([by_size, by_symmetry], axis=1).ravel().tolist()
    return forms[kept][list(dict.fromkeys(interleaved))]


def space_group_operations(structure: Structure) -> tuple[NDArray, NDArray]:
    """Find the rotations (m, 3, 3) and translations (m, 3) in fractional coordinates."""
    numbers = [site.specie.Z for site in structure]
    cell = (structure.lattice.matrix, structure.frac_coords, numbers)
    symmetry = spglib.get_symmetry(cell, symprec=SYMPREC)
    if symmetry is None:
        return np.eye(3, dtype=int)[None], np.zeros((1, 3))
    return symmetry["rotations"], symmetry["translations"]


def site_permutations(structure: Structure) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Write the space group as permutations of the sites.

    Returns
    -------
    permutations
        (m, n_sites): site s goes to ``permutations[i, s]`` under operation i.
    is_translation
        (m,): which operations are pure translations, the identity excluded.
    """
    rotations, translations = space_group_operations(structure)
    coords = structure.frac_coords
    moved = np.einsum("mij,sj->msi", rotations, coords) + translations[:, None]
    difference = moved[:, :, None] - coords[None, None]
    difference -= difference.round()
    distance = np.linalg.norm(difference @ structure.lattice.matrix, axis=-1)
    permutations = distance.argmin(axis=-1)
    is_translation = (rotations == np.eye(3, dtype=int)).all(axis=(1, 2))
    is_translation &= np.abs(translations - np.round(translations)).max(axis=1) > _ROUNDING
    return permutations, is_translation


def all_colourings(options: Sequence[int]) -> NDArray[np.int8]:
    """Every colouring of sites with ``options[s]`` colours each; (prod(options), n_sites)."""
    total = int(np.prod(options))
    return np.stack(np.unravel_index(np.arange(total), tuple(options)), axis=1).astype(np.int8)


def inequivalent_colourings(
    colourings: NDArray[np.int8],
    permutations: NDArray[np.intp],
    is_translation: NDArray[np.bool_],
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Keep one colouring of each orbit, and none that has a smaller primitive cell.

    Parameters
    ----------
    colourings
        (n, n_sites): colour of each site.
    permutations, is_translation
        As given by :func:`site_permutations`.

    Returns
    -------
    indices
        Positions of the kept colourings.
    point_group_orders
        Order of the point group that each of them keeps.
    """
    n_sites = colourings.shape[1]
    base = int(colourings.max(initial=0)) + 1
    # Sites that always have the same colour do not tell colourings apart and would lengthen keys.
    varies = (colourings != colourings[:1]).any(axis=0)
    weights = np.zeros(n_sites, dtype=np.int64)
    if base ** int(varies.sum()) < _EXACT:
        weights[varies] = base ** np.arange(varies.sum(), dtype=np.int64)
    else:
        random = np.random.default_rng(0)
        weights[varies] = random.integers(_EXACT // (base * n_sites), size=varies.sum())
    # Colouring c becomes c[P^-1 s]; the group holds every inverse, so P serves as well. As a
    # weighted sum: key_P(c) = sum_s w[s] c[P s].
    permuted_weights = np.zeros((len(permutations), n_sites), dtype=np.int64)
    rows = np.arange(len(permutations))[:, None]
    permuted_weights[rows, permutations] = weights
    canonical = np.empty(len(colourings), dtype=np.int64)
    fixed = np.empty(len(colourings), dtype=np.int64)
    primitive = np.empty(len(colourings), dtype=bool)
    step = max(1, _CHUNK // len(permutations))
    # Floats are exact below 2^53 and multiply through BLAS, integers do not.
    transposed = permuted_weights.T.astype(float)
    for start in range(0, len(colourings), step):
        chunk = slice(start, start + step)
        keys = colourings[chunk].astype(float) @ transposed
        own = colourings[chunk].astype(float) @ weights.astype(float)
        same = keys == own[:, None]
        canonical[chunk] = keys.min(axis=1)
        fixed[chunk] = same.sum(axis=1)
        primitive[chunk] = ~same[:, is_translation].any(axis=1)
    candidates = np.flatnonzero(primitive)
    _, first = np.unique(canonical[candidates], return_index=True)
    indices = candidates[np.sort(first)]
    return indices, fixed[indices]
