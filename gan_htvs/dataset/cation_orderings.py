"""Symmetry-inequivalent site orderings as integer arrays.

Orderings are the orbits of site occupations (Hart & Forcade, Phys. Rev. B 2008, 77, 224115).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gan_htvs.structures.superlattices import INTEGRAL, space_group_operations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pymatgen.core import Structure

_EXACT = 2**53
"""Smaller integers are exact as floats."""

_CHUNK = 2_000_000
"""Upper bound on the array elements of the canonical form in memory."""


def site_permutations(structure: Structure) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the space group as permutations of the sites.

    Returns
    -------
    permutations
        (m, n_sites): site s goes to ``permutations[i, s]`` under operation i.
    is_translation
        (m,): True for pure translations other than the identity.
    """
    rotations, translations = space_group_operations(structure)
    coords = structure.frac_coords
    moved = np.einsum("mij,sj->msi", rotations, coords) + translations[:, None]
    difference = moved[:, :, None] - coords[None, None]
    difference -= difference.round()
    distance = np.linalg.norm(difference @ structure.lattice.matrix, axis=-1)
    permutations = distance.argmin(axis=-1)
    is_translation = (rotations == np.eye(3, dtype=int)).all(axis=(1, 2))
    is_translation &= np.abs(translations - np.round(translations)).max(axis=1) > INTEGRAL
    return permutations, is_translation


def all_occupations(options: Sequence[int]) -> NDArray[np.int8]:
    """Return all occupations of sites by ``options[s]`` species; (prod(options), n_sites)."""
    total = int(np.prod(options))
    return np.stack(np.unravel_index(np.arange(total), tuple(options)), axis=1).astype(np.int8)


def inequivalent_occupations(
    occupations: NDArray[np.int8],
    permutations: NDArray[np.intp],
    is_translation: NDArray[np.bool_],
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Select one occupation of each orbit, without those of a smaller primitive cell.

    Parameters
    ----------
    occupations
        (n, n_sites): index of the species on each site.
    permutations, is_translation
        Result of :func:`site_permutations`.

    Returns
    -------
    indices
        Indices of the selected occupations.
    point_group_orders
        Order of the point group of each selected occupation.
    """
    n_sites = occupations.shape[1]
    base = int(occupations.max(initial=0)) + 1
    # Sites with the same species in all occupations would only lengthen the keys.
    varies = (occupations != occupations[:1]).any(axis=0)
    weights = np.zeros(n_sites, dtype=np.int64)
    if base ** int(varies.sum()) < _EXACT:
        weights[varies] = base ** np.arange(varies.sum(), dtype=np.int64)
    else:
        random = np.random.default_rng(0)
        weights[varies] = random.integers(_EXACT // (base * n_sites), size=varies.sum())
    # An operation maps occupation c to c[P^-1 s]; as the group contains every inverse, P is used
    # instead. The key is a weighted sum: key_P(c) = sum_s w[s] c[P s].
    permuted_weights = np.zeros((len(permutations), n_sites), dtype=np.int64)
    rows = np.arange(len(permutations))[:, None]
    permuted_weights[rows, permutations] = weights
    canonical = np.empty(len(occupations), dtype=np.int64)
    fixed = np.empty(len(occupations), dtype=np.int64)
    primitive = np.empty(len(occupations), dtype=bool)
    step = max(1, _CHUNK // len(permutations))
    # Floats are exact below 2^53, and NumPy multiplies them by BLAS, unlike integers.
    transposed = permuted_weights.T.astype(float)
    for start in range(0, len(occupations), step):
        chunk = slice(start, start + step)
        keys = occupations[chunk].astype(float) @ transposed
        own = occupations[chunk].astype(float) @ weights.astype(float)
        same = keys == own[:, None]
        canonical[chunk] = keys.min(axis=1)
        fixed[chunk] = same.sum(axis=1)
        primitive[chunk] = ~same[:, is_translation].any(axis=1)
    candidates = np.flatnonzero(primitive)
    _, first = np.unique(canonical[candidates], return_index=True)
    indices = candidates[np.sort(first)]
    return indices, fixed[indices]
