"""Build supercells of crystals, in batches of images."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from gan_htvs.structures.point_cloud import (
    CELL_ROWS,
    PRESENCE_THRESHOLD,
    expand_coords,
    squeeze_coords,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gan_htvs.core.chemical_system import ChemicalSystem


def supercells(
    images: NDArray[np.float32], counts: NDArray[np.integer], system: ChemicalSystem
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Build all supercells along a, b and c within the caps and the longest lattice vector.

    Every site keeps its species: the copies of an atom follow it in the rows of its element.

    Parameters
    ----------
    images
        (n, 2 + max_atoms, 3), atoms in the first rows of each block.
    counts
        (n, n_elements): atoms of each element.
    system
        Elements and caps.

    Returns
    -------
    images
        (m, 2 + max_atoms, 3), the original cells first.
    counts
        (m, n_elements).
    parents
        (m,): index of the original cell.
    """
    counts = np.asarray(counts, dtype=np.int64)
    largest = (np.array(system.max_counts) // counts).min(axis=1)
    # Lengths in an image are at most 1.
    max_multiples = np.minimum(largest[:, None], (1 + 1e-6) / images[:, 0]).astype(int)
    batches = [(images, counts, np.arange(len(images)))]
    for multiples in product(*(range(1, n + 1) for n in max_multiples.max(axis=0, initial=1))):
        factor = math.prod(multiples)
        parents = np.flatnonzero((max_multiples >= multiples).all(axis=1) & (largest >= factor))
        if factor > 1 and len(parents):
            repeated = _repeat(images[parents], multiples, system)
            batches.append((repeated, counts[parents] * factor, parents))
    all_images, all_counts, all_parents = zip(*batches, strict=True)
    return np.concatenate(all_images), np.concatenate(all_counts), np.concatenate(all_parents)


def _repeat(
    images: NDArray[np.float32], multiples: tuple[int, ...], system: ChemicalSystem
) -> NDArray[np.float32]:
    """Repeat all ``images`` (n, 2 + R, 3) ``multiples`` (3,) times along a, b, c."""
    n, factor = len(images), math.prod(multiples)
    offsets = np.indices(multiples).reshape(3, factor).T
    larger = np.zeros_like(images)
    larger[:, 0] = images[:, 0] * multiples
    larger[:, 1] = images[:, 1]
    for block in system.blocks:
        start = CELL_ROWS + block.start
        # The rows of the atoms before repetition; the others are padding.
        rows = images[:, start : start + (block.stop - block.start) // factor, None]
        copies = squeeze_coords((expand_coords(rows) + offsets) / multiples)
        copies[(rows.sum(axis=3) <= PRESENCE_THRESHOLD)[..., 0]] = 0
        larger[:, start : start + rows.shape[1] * factor] = copies.reshape(n, -1, 3)
    return larger
