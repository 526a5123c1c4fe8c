"""Arrangements of up and down moments on the magnetic sites of a crystal, best coupled first.

The best one is compensated where it can be. After it come all others that fit into the primitive
cell or one of twice its volume, ferrimagnets too, by their coupling energy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Element, Structure

from gan_htvs.core.chemical_system import is_anion
from gan_htvs.structures.superlattices import hermite_normal_forms, space_group_operations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

COMPENSATED = 0.1
"""Net moment per magnetic site up to which moments of both signs cancel, Bohr magnetons."""

MAX_ENUMERATED = 14
"""Up to this many magnetic sites every assignment of signs is tried for the best one."""

DESCENTS = 4
"""Start points of the search where there are more sites."""

MAX_RANKED = 16
"""Up to this many magnetic sites every assignment of signs is ranked."""

RANDOM_STARTS = 64
"""Start points of the search for others where there are more sites."""

TIE = 1e-6
"""Scores that differ by less, relative to all couplings, belong to equivalent arrangements."""

BOND_FACTOR = 1.3
"""An anion is bonded up to this multiple of the shortest bond of the metal: a Jahn-Teller
distorted octahedron is within (1.2), the next shell of rock salt is not (1.7)."""

ANION_REACH = 4.0
"""Radius in which the shortest bond of a metal is looked for, A."""

DIRECT_STRENGTH = 0.1
"""Direct coupling at ``DIRECT_LENGTH``, in units of one bridge of 180 degrees: it decides only
where the bridges do not."""

DIRECT_LENGTH = 3.0
"""Distance of cations that share an octahedron edge, A."""

DIRECT_DECAY = 10
"""Direct coupling goes as hopping squared, and hopping between d shells as the fifth power of the
inverse distance (Harrison, Electronic Structure and the Properties of Solids (1980))."""

DIRECT_REACH = 6.0
"""Direct coupling beyond this distance is neglected, A."""

OCTANTS = np.array(list(product((0, 1), repeat=3)))
"""(8, 3), the primitive cells of a 2 x 2 x 2 supercell."""


def antiferromagnetic_orderings(parallel: Structure) -> Iterator[Structure]:
    """Turn moments over so that coupled ones are antiparallel: one order after the other.

    The first cancels if it can: of an odd number of magnetic sites, in the best of the cells of
    twice the volume. The others follow by coupling energy, whatever their net moment, and are
    distinct under the symmetry of the crystal and the reversal of all moments. Where energies
    are equal, small net moments, small cells and high symmetry come first; what is equal in all
    of these has an order that depends on the setting of the cell. Orders that need a cell of more
    than twice the volume are not considered.

    Parameters
    ----------
    parallel
        Primitive cell with positive moments as site property ``magmom``, Bohr magnetons; one
        at least is not zero.

    Yields
    ------
    Structure
        A cell of the order, moments as site property ``magmom``.
    """
    primitive = _Cell(parallel, np.eye(3, dtype=int))
    doubled = [_Cell(parallel, hnf) for hnf in hermite_normal_forms(2)]
    best = _compensated(doubled if len(primitive.magnetic) % 2 else [primitive])
    yield best.structure

    images = _Images(primitive)
    seen = images.of(np.ones_like(best.unfolded)) | images.of(best.unfolded)
    for level in _levels([primitive, *doubled]):
        found = []
        for arrangement in level:
            if images.key(arrangement.unfolded) not in seen:
                orbit = images.of(arrangement.unfolded)
                seen |= orbit
                rank = (arrangement.net_moment, arrangement.cell.size, len(orbit), min(orbit))
                found.append((rank, arrangement))
        for _, arrangement in sorted(found, key=lambda entry: entry[0]):
            yield arrangement.structure


@dataclass(frozen=True)
class _Cell:
    """A cell in which moments are arranged."""

    parallel: Structure
    """The primitive cell."""
    hnf: NDArray[np.int64]
    """Lattice vectors in those of the primitive cell, as rows."""

    @cached_property
    def structure(self) -> Structure:
        if self.size == 1:
            return self.parallel
        return self.parallel.make_supercell(self.hnf, in_place=False)

    @cached_property
    def size(self) -> int:
        """Volume in primitive cells."""
        return round(float(np.linalg.det(self.hnf)))

    @cached_property
    def magnetic(self) -> NDArray[np.intp]:
        """(n_magnetic,), indices of the magnetic sites."""
        return np.flatnonzero(self.structure.site_properties["magmom"])

    @cached_property
    def score(self) -> _Score:
        moments = np.asarray(self.structure.site_properties["magmom"], dtype=float)
        couplings = magnetic_couplings(self.structure, self.magnetic)
        return _Score(couplings, moments[self.magnetic])

    @cached_property
    def rows(self) -> NDArray[np.intp]:
        """(n * 8,), which magnetic site is each of the n of the primitive cell, in each octant."""
        magnetic = np.flatnonzero(self.parallel.site_properties["magmom"])
        points = (self.parallel.frac_coords[magnetic][:, None] + OCTANTS).reshape(-1, 3)
        rows, _ = _nearest(points @ np.linalg.inv(self.hnf), self.structure, self.magnetic)
        return rows


@dataclass(frozen=True)
class _Arrangement:
    """Signs of the moments of a cell."""

    cell: _Cell
    signs: NDArray[np.float64]  # (n_magnetic,)

    @property
    def structure(self) -> Structure:
        """The cell with its moments."""
        moments = np.zeros(len(self.cell.structure))
        moments[self.cell.magnetic] = self.cell.score.moments * self.signs
        return self.cell.structure.copy(site_properties={"magmom": moments.tolist()})

    @property
    def unfolded(self) -> NDArray[np.bool_]:
        """(n * 8,), which of the sites of 2 x 2 x 2 primitive cells are up."""
        return self.signs[self.cell.rows] > 0

    @property
    def net_moment(self) -> float:
        """Per primitive cell, Bohr magnetons."""
        return round(abs(float(self.signs @ self.cell.score.moments)) / self.cell.size, 3)


class _Images:
    """Which arrangements are one: by an operation of the space group, or with all spins reversed.

    Every cell of twice the volume repeats in 2 x 2 x 2 primitive cells, and every operation of
    the crystal maps the sites of these on each other, so that arrangements of all cells are
    compared sign by sign, without tolerance.
    """

    def __init__(self, primitive: _Cell) -> None:
        crystal, magnetic = primitive.parallel, primitive.magnetic
        kinds = list(zip(crystal.species, crystal.site_properties["magmom"], strict=True))
        stand_ins = [Element.from_Z(1 + kinds.index(kind)) for kind in kinds]
        decorated = Structure(crystal.lattice, stand_ins, crystal.frac_coords)
        permutations = []
        for rotation, translation in zip(*space_group_operations(decorated), strict=True):
            moved = crystal.frac_coords[magnetic] @ rotation.T + translation
            rows, shifts = _nearest(moved, crystal, magnetic)
            octants = shifts[:, None] + OCTANTS @ rotation.T  # (n, 8, 3)
            permutations += [
                (8 * rows[:, None] + (octants + shift) % 2 @ [4, 2, 1]).ravel() for shift in OCTANTS
            ]
        self.permutations = np.array(permutations)  # (n_operations * 8, n * 8)

    def key(self, up: NDArray[np.bool_]) -> bytes:
        """Name an arrangement, whichever way its first moment points."""
        return np.packbits(up ^ up[0]).tobytes()

    def of(self, up: NDArray[np.bool_]) -> set[bytes]:
        """Name all images of an arrangement."""
        images = up[self.permutations]
        return {row.tobytes() for row in np.packbits(images ^ images[:, :1], axis=1)}


def _nearest(
    points: NDArray[np.float64], structure: Structure, sites: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find the site at each point, and the lattice vector from the site to the point.

    (n_points, 3), fractional -> rows of ``sites`` (n_points,), lattice vectors (n_points, 3).
    """
    apart = points[:, None] - structure.frac_coords[sites]
    vectors = np.rint(apart)
    rows = np.linalg.norm((apart - vectors) @ structure.lattice.matrix, axis=2).argmin(axis=1)
    return rows, vectors[np.arange(len(points)), rows].astype(int)


def _compensated(cells: list[_Cell]) -> _Arrangement:
    """Find the arrangement of lowest score in cells of one size."""
    best, lowest = _Arrangement(cells[0], np.ones(len(cells[0].magnetic))), np.inf
    for cell in cells:
        signs = cell.score.best_signs()
        value = float(cell.score(signs[None])[0])
        if value < lowest - TIE * cell.score.scale:
            best, lowest = _Arrangement(cell, signs), value
    return best


def _levels(cells: list[_Cell]) -> Iterator[list[_Arrangement]]:
    """Sort the arrangements of all cells into levels of equal energy, lowest first."""
    signs = [cell.score.arrangements() for cell in cells]
    energies = np.concatenate(
        [cell.score.energies(s) / cell.size for cell, s in zip(cells, signs, strict=True)]
    )
    owner = np.repeat(np.arange(len(cells)), [len(s) for s in signs])
    row = np.concatenate([np.arange(len(s)) for s in signs])
    order = np.argsort(energies, kind="stable")
    is_step = np.diff(energies[order]) > TIE * cells[0].score.scale
    for level in np.split(order, np.flatnonzero(is_step) + 1):
        yield [_Arrangement(cells[owner[i]], signs[owner[i]][row[i]]) for i in np.sort(level)]


class _Score:
    """How bad an arrangement of signs is: coupling energy plus a penalty on a net moment."""

    def __init__(self, couplings: NDArray[np.float64], moments: NDArray[np.float64]) -> None:
        self.couplings = couplings  # (n, n)
        self.moments = moments  # (n,), Bohr magnetons
        self.scale = float(np.abs(couplings).sum()) or 1.0
        self.allowed = COMPENSATED * len(moments)

    def energies(self, signs: NDArray[np.floating]) -> NDArray[np.float64]:
        """Coupling energies; (n_arrangements, n) of +1 and -1 -> (n_arrangements,)."""
        return np.asarray(
            0.5 * np.einsum("ai,ij,aj->a", signs, self.couplings, signs, optimize=True)
        )

    def __call__(self, signs: NDArray[np.floating]) -> NDArray[np.float64]:
        """Score arrangements; (n_arrangements, n) of +1 and -1 -> (n_arrangements,)."""
        net = np.abs(signs @ self.moments)
        # Larger than every difference of energies, so that moments cancel where they can.
        return self.energies(signs) + 10 * self.scale * np.maximum(net - self.allowed, 0)

    def arrangements(self) -> NDArray[np.float64]:
        """List all arrangements, or many low ones, with any net moment: (n_arrangements, n)."""
        return self._all() if len(self.moments) <= MAX_RANKED else self._minima()

    def best_signs(self) -> NDArray[np.float64]:
        """Find the arrangement of lowest score, (n,), the first sign positive."""
        signs = self._all() if len(self.moments) <= MAX_ENUMERATED else self._search()
        scores = self(signs)
        best = signs[np.argmax(scores <= scores.min() + TIE * self.scale)]
        return best * best[0]

    def _all(self) -> NDArray[np.float64]:
        n = len(self.moments)
        # Turning all moments over changes nothing, so the first sign is fixed.
        numbers = np.arange(2 ** (n - 1))[:, None]
        return np.where(numbers >> np.arange(n - 1, -1, -1) & 1, -1.0, 1.0)

    def _minima(self) -> NDArray[np.float64]:
        """Turn over one moment after the other, from random arrangements, while that helps."""
        couplings = self.couplings - np.diag(np.diag(self.couplings))
        size = (RANDOM_STARTS, len(self.moments))
        signs = np.random.default_rng(0).choice((1.0, -1.0), size)
        while True:
            # In units in which rounding errors vanish: of equal gains the first is taken.
            gains = np.rint(signs * (signs @ couplings) / (TIE * self.scale))
            best = gains.argmax(axis=1)
            falling = np.flatnonzero(gains.max(axis=1) > 0)
            if not falling.size:
                return np.unique(signs * signs[:, :1], axis=0)
            signs[falling, best[falling]] *= -1

    def _search(self) -> NDArray[np.float64]:
        """Descend from half-up, half-down arrangements along the softest modes of J."""
        _, vectors = np.linalg.eigh(self.couplings)
        ranks = vectors.T[:DESCENTS].argsort(axis=1, kind="stable").argsort(axis=1)
        starts = np.where(ranks < len(self.moments) // 2, 1.0, -1.0)
        return np.array([self._descend(start) for start in starts])

    def _descend(self, signs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn over the one or two moments that lower the score most until none does."""
        n = len(signs)
        first, second = (sites[:, None] for sites in np.triu_indices(n))
        turned = np.where((np.arange(n) == first) | (np.arange(n) == second), -1.0, 1.0)
        score = float(self(signs[None])[0])
        while True:
            candidates: NDArray[np.float64] = signs * turned
            scores = self(candidates)
            best = int(scores.argmin())
            if scores[best] >= score - TIE * self.scale:
                return signs
            signs, score = candidates[best], float(scores[best])


def magnetic_couplings(structure: Structure, magnetic: ArrayLike) -> NDArray[np.float64]:
    r"""Estimate how strongly each pair of sites wants to be antiparallel.

    .. math:: J_{ij} = \sum_{i-X-j} \cos^2\theta_{iXj} + w \sum_{ij} (d_0 / d_{ij})^{10}

    with a first sum over all anions X bonded to both (Goodenough 1955, Kanamori 1959) and a
    small second one over direct neighbors; images of a site in other cells count.

    Parameters
    ----------
    structure
        Ordered crystal.
    magnetic
        (n_magnetic,), indices of the magnetic sites.

    Returns
    -------
    NDArray
        (n_magnetic, n_magnetic), symmetric, in units of one bridge of 180 degrees. The energy
        per cell of an arrangement is half the sum over :math:`s_i J_{ij} s_j`.
    """
    magnetic = np.asarray(magnetic)
    couplings = np.zeros((len(magnetic), len(magnetic)))
    row = np.full(len(structure), -1)
    row[magnetic] = np.arange(len(magnetic))
    center, other, image, distance = structure.get_neighbor_list(max(ANION_REACH, DIRECT_REACH))

    is_direct = (row[center] >= 0) & (row[other] >= 0) & (distance < DIRECT_REACH)
    direct = DIRECT_STRENGTH * (DIRECT_LENGTH / distance[is_direct]) ** DIRECT_DECAY
    np.add.at(couplings, (row[center[is_direct]], row[other[is_direct]]), direct)

    anionic = np.array([is_anion(site.specie.symbol) for site in structure])
    is_bond = (row[center] >= 0) & anionic[other] & (distance < ANION_REACH)
    shortest = np.full(len(structure), np.inf)
    np.minimum.at(shortest, center[is_bond], distance[is_bond])
    is_bond &= distance < BOND_FACTOR * shortest[center]
    metal, anion = row[center[is_bond]], other[is_bond]
    # Seen from the anion, so that the images of the metal around one anion are told apart.
    fractional = structure.frac_coords[other] + image - structure.frac_coords[center]
    bonds = structure.lattice.get_cartesian_coords(fractional[is_bond])  # (n_bonds, 3)
    bonds /= distance[is_bond][:, None]
    is_bridge = anion[:, None] == anion[None, :]
    np.fill_diagonal(is_bridge, val=False)
    first, second = np.nonzero(is_bridge)
    cosines = np.einsum("bx,bx->b", bonds[first], bonds[second])
    np.add.at(couplings, (metal[first], metal[second]), cosines**2)
    return couplings
