"""Fast filter of structure pairs that pymatgen's structure matcher cannot match.

The matcher matches two primitive cells if (1) the lengths and angles of a basis of one lattice
agree with those of the other within tolerance, (2) in the mean of both cells, after an atom of the
rarest element is placed on another one, each atom has an atom of its element nearby, and (3) the
atoms then pair one to one within the site tolerance. The filter checks conditions 1 and 2 with the
tolerances of the matcher, for one structure against all others at once. Pairs that fail cannot
match; pairs that pass are compared by the matcher.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pymatgen.core import Structure

Formula: TypeAlias = tuple[tuple[str, int], ...]
"""Elements and their numbers of atoms in the primitive cell."""

LENGTH_TOLERANCE = 0.2
"""Largest fractional difference of matching lattice lengths."""
SITE_TOLERANCE = 0.3
"""Largest distance of matching atoms, in cube roots of the volume per atom."""
ANGLE_TOLERANCE = 5.0
"""Largest difference of matching lattice angles, degrees."""

_SLACK = 1e-5
"""Margin of all tolerances for rounding errors."""

_MOST_SKEWED = np.sqrt(2) * (1 + LENGTH_TOLERANCE) ** 3 * (1 + _SLACK)
"""Largest product of lengths over volume of a basis that may match a reduced basis, for which it is
at most the square root of two (Minkowski)."""
_LARGEST_COSINE = np.cos(np.radians(60 - ANGLE_TOLERANCE)) + _SLACK
"""Largest cosine of its angles; those of a reduced basis are between 60 and 120 degrees."""
_MOST_VECTORS = 10_000
"""Lattices with more vectors within reach, such as needles, are not tabulated."""
_MOST_DISTANCES = 1_000_000
"""Largest number of distances in memory."""

_BASIS = np.dtype([("vectors", np.int64, (3, 3)), ("lengths", float, 3), ("angles", float, 3)])
_COMBINATIONS = np.array([c for c in product((-1, 0, 1), repeat=3) if any(c)])
_PERMUTATIONS = np.array(list(permutations(range(3))))
_SIGNS = np.array([[1, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]])
"""Signs of the vectors of a basis; reversing all of them does not change the angles."""
_ANGLE_SIGNS = _SIGNS.prod(axis=1, keepdims=True) * _SIGNS


@dataclass(frozen=True)
class Fingerprint:
    """Properties of a reduced primitive structure that determine possible matches.

    Attributes
    ----------
    structure
        Primitive structure, reduced as in the matcher.
    lengths, angles
        (3,), (3,): lattice lengths at volume 1, and angles in degrees.
    frac_coords
        (n, 3): fractional coordinates, grouped by element in alphabetical order.
    formula
        Formula of the primitive cell; only structures of equal formula match.
    bases
        (m,): bases of the lattice that may match a reduced basis, up to order and sign of their
        ``vectors`` (3, 3), in integer coordinates, with ``lengths`` (3,) at volume 1 and ``angles``
        (3,) in degrees. Empty for too many bases or a cell that is not reduced.
    """

    structure: Structure
    lengths: NDArray[np.float64]
    angles: NDArray[np.float64]
    frac_coords: NDArray[np.float64]
    formula: Formula
    bases: NDArray[np.void]

    @classmethod
    def from_structure(cls, structure: Structure) -> Fingerprint:
        """Reduce a structure and tabulate the bases of its lattice."""
        reduced = structure.get_reduced_structure("niggli").get_primitive_structure()
        symbols = np.array([site.species_string for site in reduced])
        elements, number = np.unique(symbols, return_counts=True)
        matrix = reduced.lattice.matrix / reduced.volume ** (1 / 3)
        return cls(
            structure=reduced,
            lengths=np.linalg.norm(matrix, axis=1),
            angles=np.array(reduced.lattice.angles),
            frac_coords=reduced.frac_coords[np.argsort(symbols, kind="stable")],
            formula=tuple(zip(elements.tolist(), number.tolist(), strict=True)),
            bases=_bases(matrix),
        )


def _bases(matrix: NDArray[np.float64]) -> NDArray[np.void]:
    """List bases of a lattice of volume 1; see :class:`Fingerprint`."""
    no_bases = np.zeros(0, _BASIS)
    lengths = np.linalg.norm(matrix, axis=1)
    if not _is_reduced(matrix[np.argsort(lengths)]):
        return no_bases
    shortest, second, _ = np.sort(lengths)
    reach = _MOST_SKEWED / (shortest * second)
    most = np.floor(reach * np.linalg.norm(np.linalg.inv(matrix), axis=0)).astype(int)
    if np.prod(2.0 * most + 1) > _MOST_VECTORS:
        return no_bases
    integers = np.indices(2 * most + 1).reshape(3, -1).T - most
    integers = integers[len(integers) // 2 + 1 :]  # one of each vector and its opposite
    vectors = integers @ matrix
    size = np.linalg.norm(vectors, axis=1)
    near = np.flatnonzero(size <= reach)
    near = near[np.argsort(size[near])]
    integers, vectors, size = integers[near], vectors[near], size[near]

    # Ascending lengths u <= v <= w, so u v v <= u v w.
    head = size <= np.sqrt(_MOST_SKEWED / shortest)
    n = int(head.sum())
    cosines = (vectors[:n] @ vectors.T) / (size[:n, None] * size)
    upright = np.abs(cosines) <= _LARGEST_COSINE
    pairs = size[:n, None] * size[:n] ** 2 <= _MOST_SKEWED
    u, v = np.nonzero(np.triu(upright[:, :n] & pairs, k=1))
    normal = np.cross(vectors[u], vectors[v])
    fits = upright[u] & upright[v] & ((size[u] * size[v])[:, None] * size <= _MOST_SKEWED)
    fits &= np.arange(len(size)) > v[:, None]
    pair, w = np.nonzero(fits)
    unimodular = np.round(np.abs((normal[pair] * vectors[w]).sum(axis=1))) == 1
    u, v, w = u[pair[unimodular]], v[pair[unimodular]], w[unimodular]
    cosine = np.stack([cosines[v, w], cosines[u, w], cosines[u, v]], axis=1)
    bases = np.zeros(len(w), _BASIS)
    bases["vectors"] = np.stack([integers[u], integers[v], integers[w]], axis=1)
    bases["lengths"] = np.stack([size[u], size[v], size[w]], axis=1)
    bases["angles"] = np.degrees(np.arccos(cosine))
    return bases


def _is_reduced(matrix: NDArray[np.float64]) -> bool:
    """Return whether a basis, short vectors first, is Minkowski-reduced."""
    size = np.linalg.norm(_COMBINATIONS @ matrix, axis=1)
    last = 2 - np.argmax(_COMBINATIONS[:, ::-1] != 0, axis=1)
    return bool((size >= np.linalg.norm(matrix, axis=1)[last] * (1 - _SLACK / 10)).all())


def possible_matches(table: Sequence[Fingerprint], new: Fingerprint) -> list[int]:
    """Return the indices of fingerprints of equal formula that may match ``new``, ascending."""
    if not table or not len(new.bases):
        return list(range(len(table)))
    is_possible = np.array([not len(fingerprint.bases) for fingerprint in table])
    owners, bases, lengths, angles = similar_bases(table, new)
    if len(owners):
        mean_lengths, mean_angles = (lengths + new.lengths) / 2, (angles + new.angles) / 2
        coords = np.stack([table[i].frac_coords for i in owners]) @ np.linalg.inv(bases)
        for sign in (1, -1):
            fits = _fitting_sites(sign * coords, mean_lengths, mean_angles, new)
            is_possible[owners[fits]] = True
    return np.flatnonzero(is_possible).tolist()


def similar_bases(
    table: Sequence[Fingerprint], new: Fingerprint
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Find bases similar to that of ``new``.

    Returns
    -------
    Indices of fingerprints (m,), integer bases (m, 3, 3), lengths (m, 3) and angles (m, 3).
    """
    owners = np.repeat(np.arange(len(table)), [len(fingerprint.bases) for fingerprint in table])
    bases = np.concatenate([fingerprint.bases for fingerprint in table], dtype=_BASIS)
    ratio = bases["lengths"][:, :, None] / new.lengths  # (q, of basis, of new)
    widest = (1 + LENGTH_TOLERANCE) * (1 + _SLACK)
    close = (ratio < widest) & (ratio > 1 / widest)
    row, order = np.nonzero(close[:, _PERMUTATIONS, np.arange(3)].all(axis=2))
    order = _PERMUTATIONS[order]
    angles = np.take_along_axis(bases["angles"][row], order, axis=1) - 90
    angles = 90 + angles[:, None] * _ANGLE_SIGNS
    similar = (np.abs(angles - new.angles) <= ANGLE_TOLERANCE + _SLACK).all(axis=2)
    match, sign = np.nonzero(similar)
    row, order = row[match], order[match]
    vectors = np.take_along_axis(bases["vectors"][row], order[:, :, None], axis=1)
    return (
        owners[row],
        vectors * _SIGNS[sign][:, :, None],
        np.take_along_axis(bases["lengths"][row], order, axis=1),
        angles[match, sign],
    )


def _fitting_sites(
    coords: NDArray[np.float64],
    lengths: NDArray[np.float64],
    angles: NDArray[np.float64],
    new: Fingerprint,
) -> NDArray[np.int64]:
    """Find which ``coords`` (m, n, 3) can be shifted onto the atoms of ``new`` in cells (m, 3).

    If all atoms pair within the site tolerance, then after a shift that superimposes one pair, all
    others pair within twice the tolerance.
    """
    volume, metric = _metric(lengths, angles)
    reach = 2 * SITE_TOLERANCE * (volume / len(new.frac_coords)) ** (1 / 3) * (1 + _SLACK)
    widest = reach[:, None] * np.sqrt(np.diagonal(np.linalg.inv(metric), axis1=1, axis2=2))
    # The nearest image in fractional coordinates is the nearest one only in small spheres.
    is_small = np.all(widest < 1 / 2, axis=1)

    numbers = [n for _, n in new.formula]
    blocks = [slice(end - n, end) for end, n in zip(np.cumsum(numbers), numbers, strict=True)]
    blocks.sort(key=lambda block: block.stop - block.start)
    rarest = blocks[0]
    shifts = coords[:, rarest] - new.frac_coords[rarest.start]  # (m, t, 3)
    which, shift = (index.ravel() for index in np.indices(shifts.shape[:2]))
    for block in blocks:
        step = max(1, _MOST_DISTANCES // (block.stop - block.start) ** 2)
        fits = np.zeros(len(which), dtype=bool)
        for start in range(0, len(which), step):
            part = slice(start, start + step)
            cell = which[part]
            moved = new.frac_coords[block] + shifts[cell, shift[part]][:, None]
            apart = moved[:, :, None] - coords[cell, None, block]
            apart -= np.round(apart)
            squared = ((apart @ metric[cell, None]) * apart).sum(axis=3)
            near = (squared <= reach[cell, None, None] ** 2) | ~is_small[cell, None, None]
            near &= (np.abs(apart) <= widest[cell, None, None]).all(axis=3)
            fits[part] = near.any(axis=2).all(axis=1)
        which, shift = which[fits], shift[fits]
    return np.unique(which)


def _metric(
    lengths: NDArray[np.float64], angles: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute volumes (m,) and metric tensors (m, 3, 3) of cells (m, 3), angles in degrees."""
    cosines = np.cos(np.radians(angles))
    metric = np.ones((len(lengths), 3, 3))
    for i, (j, k) in enumerate(((1, 2), (0, 2), (0, 1))):
        metric[:, j, k] = metric[:, k, j] = cosines[:, i]
    metric *= lengths[:, :, None] * lengths[:, None]
    return np.sqrt(np.linalg.det(metric)), metric
