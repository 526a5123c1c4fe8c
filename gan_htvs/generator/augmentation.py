"""Training images with random augmentation whenever they are drawn."""

from __future__ import annotations

import math
from functools import partial
from itertools import permutations, product
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gan_htvs.generator.networks import expected_presence
from gan_htvs.structures.point_cloud import (
    CELL_ROWS,
    EDGE,
    LAST,
    PRESENCE_THRESHOLD,
    decode,
    expand_coords,
    squeeze_coords,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from gan_htvs.core.chemical_system import ChemicalSystem

_ORDERS = math.factorial(7)
"""Row orders stored per number of atoms: up to seven atoms, all of them, equally often."""

_AXIS_ORDERS = tuple(permutations(range(3)))


class TrainingImages:
    """Unique crystals, drawn with random supercell, origin, order of axes and of equal atoms.

    Cell formulas are drawn with equal probability, crystals within a formula by weight, and the
    supercells of a crystal with the same formula with equal probability.

    Parameters
    ----------
    images
        (n, 2 + max_atoms, 3), atoms in the first rows of their blocks, as
        :func:`gan_htvs.structures.point_cloud.encode` writes them.
    counts
        (n, n_elements): atoms of each element in ``images``.
    system
        Elements and caps.
    supercells
        Whether to include supercells up to the caps and 30 A.
    weights
        (n,): positive weight of each crystal within its formulas; equal by default.

    Attributes
    ----------
    images, counts
        (m, 2 + max_atoms, 3) and (m, n_elements): all cells, supercells included.
    probabilities
        (m,): probability of each cell.

    Raises
    ------
    ValueError
        If the arrays do not fit ``system`` or a weight is not positive and finite.
    """

    def __init__(
        self,
        images: NDArray[np.float32],
        counts: NDArray[np.integer],
        system: ChemicalSystem,
        *,
        supercells: bool = True,
        weights: ArrayLike | None = None,
    ) -> None:
        images, counts = np.asarray(images, dtype=np.float32), np.asarray(counts)
        weight = check_weights(images, counts, system, weights)

        parents = np.arange(len(images))
        if supercells:
            images, counts, parents = all_supercells(images, counts, system)
        probabilities = _probabilities(counts, parents, weight)
        self.system = system
        self.images = torch.as_tensor(images)
        self.counts = torch.as_tensor(counts).long()
        self.probabilities = torch.as_tensor(probabilities)
        self._bounds = self.probabilities.cumsum(0)[:-1]
        # Rows to copy from, (6 * m * rows, 3).
        self._rows = torch.cat([self.images[..., axes] for axes in _AXIS_ORDERS]).flatten(0, 1)
        self._orders = [_row_orders(block) for block in system.blocks]
        self._cell_rows = torch.arange(CELL_ROWS)

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw augmented images (n, 2 + max_atoms, 3), float32, and counts (n, n_elements)."""
        new = partial(torch.rand, generator=generator)
        index = partial(torch.randint, generator=generator)
        chosen = torch.searchsorted(self._bounds, new(n, dtype=torch.float64), right=True)
        counts = self.counts[chosen]
        axes = index(len(_AXIS_ORDERS), (n,))
        shift = EDGE * new(n, 1, 3)

        order = counts * _ORDERS + index(_ORDERS, counts.shape)
        rows = [orders[order[:, e]] for e, orders in enumerate(self._orders)]
        source = torch.cat([self._cell_rows.expand(n, -1), *rows], dim=1)  # (n, 2 + R)
        source += ((axes * len(self.images) + chosen) * source.shape[1])[:, None]
        images = self._rows.index_select(0, source.flatten()).view(*source.shape, 3)

        atoms = images[:, CELL_ROWS:]
        moved = atoms + shift
        wrapped = torch.where(moved < LAST, moved, moved - EDGE)
        torch.mul(wrapped, atoms[..., :1] > 0, out=atoms)
        return images, counts


def all_supercells(
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


def check_weights(
    images: NDArray[np.float32],
    counts: NDArray[np.integer],
    system: ChemicalSystem,
    weights: ArrayLike | None,
) -> NDArray[np.float64]:
    """Check images, counts and weights; return the weights, 1 by default.

    Raises
    ------
    ValueError
        If images and counts do not fit each other and ``system``, or a weight is not positive and
        finite.
    """
    if not len(images) or images.shape[1:] != (CELL_ROWS + system.max_atoms, 3):
        raise ValueError(f"images of shape {images.shape} do not fit {system.chemsys}")
    if counts.shape != (len(images), len(system.elements)):
        raise ValueError(f"counts of shape {counts.shape} do not fit {len(images)} images")
    if (counts < 1).any() or (counts > np.array(system.max_counts)).any():
        raise ValueError(f"counts must lie between 1 and {system.max_counts}")
    expected = expected_presence(torch.as_tensor(counts), system.max_counts).numpy()
    if (decode(images, system).presence != expected).any():
        raise ValueError(
            "images must contain as many atoms as counts, in the first rows of each block"
        )
    weight = np.ones(len(images)) if weights is None else np.asarray(weights, dtype=float)
    if weight.shape != (len(images),) or not (np.isfinite(weight) & (weight > 0)).all():
        raise ValueError(f"weights must be {len(images)} positive numbers")
    return weight


def _probabilities(
    counts: NDArray[np.integer], parents: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Distribute probability over formulas, then their crystals, then the cells of a crystal."""
    _, formula = np.unique(counts, axis=0, return_inverse=True)
    formula = formula.reshape(-1)
    _, crystal, cells = np.unique(
        np.stack([formula, parents]), axis=1, return_inverse=True, return_counts=True
    )
    weight = weights[parents] / cells[crystal.reshape(-1)]
    totals = np.bincount(formula, weight)
    return weight / totals[formula] / len(totals)


def _row_orders(block: slice) -> Tensor:
    """Return orders of the rows of a block for every number of atoms.

    Returns
    -------
    ((cap + 1) * _ORDERS, cap): rows of the image; padding rows stay in place. For up to seven
    atoms, all orders are included equally often, for more atoms a random selection.
    """
    cap = block.stop - block.start
    rng = np.random.default_rng(0)
    orders = np.tile(np.arange(cap), (cap + 1, _ORDERS, 1))
    for n in range(2, cap + 1):
        if math.factorial(n) <= _ORDERS:
            all_orders = np.array(list(permutations(range(n))))
            orders[n, :, :n] = np.tile(all_orders, (_ORDERS // len(all_orders), 1))
        else:
            orders[n, :, :n] = rng.permuted(orders[n, :, :n], axis=1)
    return torch.as_tensor(orders.reshape(-1, cap) + CELL_ROWS + block.start)
