"""Which structures are new, for thousands at a time.

The structure matcher takes 30 ms a pair, and a formula can have a hundred orderings. Pair-distance
histograms tell nearly all pairs apart beforehand: among Mg-Mn-O decorations the matcher equates
only structures whose histograms differ by less than 0.12.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.optimization.neighbors import find_points_in_spheres

from gan_htvs.matching import structure_matcher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pymatgen.core import Structure

HISTOGRAM_DISTANCE = 0.15
"""Structures whose histograms differ by more are never compared."""

ORDERING_DISTANCE = 0.05
"""The same for two orderings of one lattice, which differ by whole atoms or hardly at all."""

SAME_SITE = 1e-6
"""An atom is no neighbour of itself, A."""

_GRID = np.arange(0.7, 2.2, 0.05)
"""Distances at which histograms are taken, in units of the cube root of the volume per atom."""
_WIDTH = 0.12
"""Gaussian width of a bond in the histogram, same units: a relaxation does not move a peak away."""


def distance_histogram(structure: Structure) -> NDArray[np.float64]:
    """Count neighbours of each pair of elements by distance, whatever the volume.

    Returns
    -------
    (n_pairs * n_distances,): smooth neighbour numbers per atom, weighted by 1/d^2; pairs of
    elements in alphabetical order.
    """
    length = (structure.volume / len(structure)) ** (1 / 3)
    coords = np.ascontiguousarray(structure.cart_coords)
    centre, neighbour, _, distance = find_points_in_spheres(
        coords,
        coords,
        r=float(_GRID[-1] + _WIDTH) * length,
        pbc=np.array([1, 1, 1], dtype=np.int64),
        lattice=np.ascontiguousarray(structure.lattice.matrix),
        tol=1e-8,
    )
    elements, kind = np.unique([site.specie.symbol for site in structure], return_inverse=True)
    real = (distance > SAME_SITE) & (kind[centre] <= kind[neighbour])
    pair = kind[centre[real]] * len(elements) + kind[neighbour[real]]
    reduced = distance[real] / length
    bonds = np.exp(-(((reduced[:, None] - _GRID) / _WIDTH) ** 2) / 2) / reduced[:, None] ** 2
    histogram = np.zeros((len(elements) ** 2, len(_GRID)))
    np.add.at(histogram, pair, bonds)
    return histogram.ravel() / len(structure)


def distinct_indices(
    structures: Sequence[Structure], *, lattices: Sequence[str] | None = None
) -> list[int]:
    """Keep the first of each group of matching structures.

    The same judgement as :func:`gan_htvs.matching.unique_indices`, but only structures with
    similar histograms come before the matcher.

    Parameters
    ----------
    structures
        Any structures, in order of preference.
    lattices
        Name of the lattice of which each is an inequivalent ordering, if known.

    Returns
    -------
    Ascending indices into ``structures``.
    """
    matcher = structure_matcher()
    kept: dict[str, list[int]] = defaultdict(list)
    histograms = [distance_histogram(structure) for structure in structures]
    for i, structure in enumerate(structures):
        bucket = kept[structure.composition.reduced_formula]
        if bucket:
            others = np.array([histograms[j] for j in bucket])
            difference = np.abs(others - histograms[i]).sum(axis=1)
            difference /= np.maximum(others, histograms[i]).sum(axis=1)
            limits = [
                ORDERING_DISTANCE
                if lattices is not None and lattices[i] == lattices[j]
                else HISTOGRAM_DISTANCE
                for j in bucket
            ]
            near = np.flatnonzero(difference < limits)
            # The closest first: if any matches, it is likely that one.
            ordered = near[np.argsort(difference[near], kind="stable")]
            if any(matcher.fit(structure, structures[bucket[k]]) for k in ordered):
                continue
        bucket.append(i)
    return sorted(i for bucket in kept.values() for i in bucket)
