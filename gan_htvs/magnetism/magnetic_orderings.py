"""Collinear magnetic orderings of a crystal, ranked by estimated couplings.

The first ordering is compensated if possible. All other orderings in the primitive cell and the
cells of twice its volume, including ferrimagnetic ones, follow by coupling energy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Element, Structure

from gan_htvs.core.chemical_system import find_anions
from gan_htvs.structures.superlattices import hermite_normal_forms, space_group_operations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

COMPENSATED = 0.1
"""Largest net moment per magnetic site of a compensated ordering, Bohr magnetons."""

MAX_ENUMERATED = 14
"""Largest number of magnetic sites for which the first ordering is found by enumeration."""

SEARCH_STARTS = 4
"""Number of starting points of the search for the first ordering with more sites."""

MAX_RANKED = 16
"""Largest number of magnetic sites for which the other orderings are enumerated."""

RANDOM_STARTS = 64
"""Number of starting points of the search for other orderings with more sites."""

TIE = 1e-6
"""Difference of equal scores, relative to the sum of all couplings."""

BOND_FACTOR = 1.3
"""Largest bond length of a metal over its shortest one: includes a Jahn-Teller distorted octahedron
(1.2), excludes the next shell of rocksalt (1.7)."""

ANION_REACH = 4.0
"""Search radius of metal-anion bonds, A."""

DIRECT_STRENGTH = 0.1
"""Direct coupling at ``DIRECT_LENGTH`` in units of a bridge of 180 degrees; small, so that it only
ranks orderings with equal couplings by bridges."""

DIRECT_LENGTH = 3.0
"""Distance of cations that share an octahedron edge, A."""

DIRECT_DECAY = 10
"""Exponent of the direct coupling, which is proportional to the square of the hopping; the hopping
between d shells is proportional to the fifth power of the inverse distance (Harrison, Electronic
Structure and the Properties of Solids (1980))."""

DIRECT_REACH = 6.0
"""Largest distance of direct coupling, A."""

OCTANTS = np.array(list(product((0, 1), repeat=3)))
"""Primitive cells of a 2 x 2 x 2 supercell, (8, 3)."""


def antiferromagnetic_orderings(parallel: Structure) -> Iterator[Structure]:
    """Generate orderings in which coupled moments are antiparallel.

    The first ordering is compensated if possible; for an odd number of magnetic sites it is the
    best one in the cells of twice the volume. The others follow by coupling energy, regardless of
    their net moment, and are distinct under the space group and the reversal of all moments. For
    equal energies small net moments, small cells and high symmetry come first; the sequence of
    orderings that are equal in all of these depends on the setting of the cell. Orderings with a
    cell of more than twice the volume are not considered.

    Parameters
    ----------
    parallel
        Primitive cell with non-negative moments as site property ``magmom``, Bohr magnetons; at
        least one is positive.

    Yields
    ------
    Structure
        Cell of the ordering, with moments as site property ``magmom``.
    """
    primitive = MagneticCell(parallel, np.eye(3, dtype=int))
    doubled = [MagneticCell(parallel, hnf) for hnf in hermite_normal_forms(2)]
    best = _compensated(doubled if len(primitive.magnetic) % 2 else [primitive])
    yield best.structure

    images = _Images(primitive)
    seen = images.of(np.ones_like(best.unfolded)) | images.of(best.unfolded)
    for level in _levels([primitive, *doubled]):
        ranked = []
        for ordering in level:
            if images.key(ordering.unfolded) not in seen:
                orbit = images.of(ordering.unfolded)
                seen |= orbit
                rank = (ordering.net_moment, ordering.cell.size, len(orbit), min(orbit))
                ranked.append((rank, ordering))
        for _, ordering in sorted(ranked, key=lambda entry: entry[0]):
            yield ordering.structure


@dataclass(frozen=True)
class MagneticCell:
    """Cell of magnetic orderings."""

    parallel: Structure
    """Primitive cell with parallel moments."""
    hnf: NDArray[np.int64]
    """Lattice vectors (rows) in units of those of the primitive cell."""

    @cached_property
    def structure(self) -> Structure:
        """Structure of the cell with parallel moments."""
        if self.size == 1:
            return self.parallel
        return self.parallel.make_supercell(self.hnf, in_place=False)

    @cached_property
    def size(self) -> int:
        """Volume in primitive cells."""
        return round(float(np.linalg.det(self.hnf)))

    @cached_property
    def magnetic(self) -> NDArray[np.intp]:
        """Indices of the magnetic sites, (n_magnetic,)."""
        return np.flatnonzero(self.structure.site_properties["magmom"])

    @cached_property
    def score(self) -> OrderingScore:
        """Score of the orderings of the cell."""
        moments = np.asarray(self.structure.site_properties["magmom"], dtype=float)
        couplings = magnetic_couplings(self.structure, self.magnetic)
        return OrderingScore(couplings, moments[self.magnetic])

    @cached_property
    def rows(self) -> NDArray[np.intp]:
        """Magnetic site of the cell for each of the n primitive ones in each octant, (n * 8,)."""
        magnetic = np.flatnonzero(self.parallel.site_properties["magmom"])
        points = (self.parallel.frac_coords[magnetic][:, None] + OCTANTS).reshape(-1, 3)
        rows, _ = _nearest(points @ np.linalg.inv(self.hnf), self.structure, self.magnetic)
        return rows


@dataclass(frozen=True)
class _Ordering:
    """Magnetic ordering: signs of the moments of a cell."""

    cell: MagneticCell
    signs: NDArray[np.float64]  # (n_magnetic,)

    @property
    def structure(self) -> Structure:
        """Cell with the moments of the ordering."""
        moments = np.zeros(len(self.cell.structure))
        moments[self.cell.magnetic] = self.cell.score.moments * self.signs
        return self.cell.structure.copy(site_properties={"magmom": moments.tolist()})

    @property
    def unfolded(self) -> NDArray[np.bool_]:
        """True for up moments, for the sites of 2 x 2 x 2 primitive cells, (n * 8,)."""
        return self.signs[self.cell.rows] > 0

    @property
    def net_moment(self) -> float:
        """Net moment per primitive cell, Bohr magnetons."""
        return round(abs(float(self.signs @ self.cell.score.moments)) / self.cell.size, 3)


class _Images:
    """Equivalence of orderings under the space group and the reversal of all moments.

    All cells of twice the volume are periodic in 2 x 2 x 2 primitive cells, and all operations of
    the crystal permute the sites of these, so orderings of all cells are compared sign by sign,
    without tolerance.
    """

    def __init__(self, primitive: MagneticCell) -> None:
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
        """Return the key of an ordering, independent of the reversal of all moments."""
        return np.packbits(up ^ up[0]).tobytes()

    def of(self, up: NDArray[np.bool_]) -> set[bytes]:
        """Return the keys of all orderings that are equivalent to an ordering."""
        images = up[self.permutations]
        return {row.tobytes() for row in np.packbits(images ^ images[:, :1], axis=1)}


def _nearest(
    points: NDArray[np.float64], structure: Structure, sites: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find the site at each point, and the lattice vector from the site to the point.

    Parameters
    ----------
    points
        (n_points, 3), fractional coordinates.
    structure
        Crystal.
    sites
        Indices of the sites to search.

    Returns
    -------
    Rows of ``sites`` (n_points,) and lattice vectors (n_points, 3).
    """
    apart = points[:, None] - structure.frac_coords[sites]
    vectors = np.rint(apart)
    rows = np.linalg.norm((apart - vectors) @ structure.lattice.matrix, axis=2).argmin(axis=1)
    return rows, vectors[np.arange(len(points)), rows].astype(int)


def _compensated(cells: list[MagneticCell]) -> _Ordering:
    """Find the ordering of lowest score in cells of equal size."""
    best, lowest = _Ordering(cells[0], np.ones(len(cells[0].magnetic))), np.inf
    for cell in cells:
        signs = cell.score.best_signs()
        value = float(cell.score(signs[None])[0])
        if value < lowest - TIE * cell.score.scale:
            best, lowest = _Ordering(cell, signs), value
    return best


def _levels(cells: list[MagneticCell]) -> Iterator[list[_Ordering]]:
    """Group the orderings of all cells by equal energy, lowest first."""
    signs = [cell.score.orderings() for cell in cells]
    energies = np.concatenate(
        [cell.score.energies(s) / cell.size for cell, s in zip(cells, signs, strict=True)]
    )
    owner = np.repeat(np.arange(len(cells)), [len(s) for s in signs])
    row = np.concatenate([np.arange(len(s)) for s in signs])
    order = np.argsort(energies, kind="stable")
    is_step = np.diff(energies[order]) > TIE * cells[0].score.scale
    for level in np.split(order, np.flatnonzero(is_step) + 1):
        yield [_Ordering(cells[owner[i]], signs[owner[i]][row[i]]) for i in np.sort(level)]


class OrderingScore:
    """Score of orderings: coupling energy plus a penalty on the net moment; lower is better."""

    def __init__(self, couplings: NDArray[np.float64], moments: NDArray[np.float64]) -> None:
        self.couplings = couplings  # (n, n)
        self.moments = moments  # (n,), Bohr magnetons
        self.scale = float(np.abs(couplings).sum()) or 1.0
        self.allowed = COMPENSATED * len(moments)

    def energies(self, signs: NDArray[np.floating]) -> NDArray[np.float64]:
        """Compute coupling energies (n_orderings,) of signs (n_orderings, n), +1 or -1."""
        return np.asarray(
            0.5 * np.einsum("ai,ij,aj->a", signs, self.couplings, signs, optimize=True)
        )

    def __call__(self, signs: NDArray[np.floating]) -> NDArray[np.float64]:
        """Compute scores (n_orderings,) of signs (n_orderings, n), +1 or -1."""
        net = np.abs(signs @ self.moments)
        # Larger than any difference of energies, so that compensated orderings come first.
        return self.energies(signs) + 10 * self.scale * np.maximum(net - self.allowed, 0)

    def orderings(self) -> NDArray[np.float64]:
        """Return the signs (n_orderings, n) of all orderings, or of local minima in large cells."""
        return self.all_signs() if len(self.moments) <= MAX_RANKED else self.local_minima()

    def best_signs(self) -> NDArray[np.float64]:
        """Return the signs (n,) of lowest score, the first sign positive."""
        signs = self.all_signs() if len(self.moments) <= MAX_ENUMERATED else self.search()
        scores = self(signs)
        best = signs[np.argmax(scores <= scores.min() + TIE * self.scale)]
        return best * best[0]

    def all_signs(self) -> NDArray[np.float64]:
        """Return all distinct signs (n_orderings, n)."""
        n = len(self.moments)
        # Reversal of all moments does not change the energy, so the first sign is fixed.
        numbers = np.arange(2 ** (n - 1))[:, None]
        return np.where(numbers >> np.arange(n - 1, -1, -1) & 1, -1.0, 1.0)

    def local_minima(self) -> NDArray[np.float64]:
        """Lower the energy of random orderings by single reversals until none lowers it."""
        couplings = self.couplings - np.diag(np.diag(self.couplings))
        size = (RANDOM_STARTS, len(self.moments))
        signs = np.random.default_rng(0).choice((1.0, -1.0), size)
        while True:
            # Integer gains have no rounding errors, so the first of equal gains is chosen.
            gains = np.rint(signs * (signs @ couplings) / (TIE * self.scale))
            best = gains.argmax(axis=1)
            falling = np.flatnonzero(gains.max(axis=1) > 0)
            if not falling.size:
                return np.unique(signs * signs[:, :1], axis=0)
            signs[falling, best[falling]] *= -1

    def search(self) -> NDArray[np.float64]:
        """Minimize scores from half-up, half-down orderings along the softest modes of J."""
        _, vectors = np.linalg.eigh(self.couplings)
        ranks = vectors.T[:SEARCH_STARTS].argsort(axis=1, kind="stable").argsort(axis=1)
        starts = np.where(ranks < len(self.moments) // 2, 1.0, -1.0)
        return np.array([self._minimize(start) for start in starts])

    def _minimize(self, signs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Reverse the one or two moments that lower the score most, until none lowers it."""
        n = len(signs)
        first, second = (sites[:, None] for sites in np.triu_indices(n))
        reversals = np.where((np.arange(n) == first) | (np.arange(n) == second), -1.0, 1.0)
        score = float(self(signs[None])[0])
        while True:
            candidates: NDArray[np.float64] = signs * reversals
            scores = self(candidates)
            best = int(scores.argmin())
            if scores[best] >= score - TIE * self.scale:
                return signs
            signs, score = candidates[best], float(scores[best])


def magnetic_couplings(structure: Structure, magnetic: ArrayLike) -> NDArray[np.float64]:
    r"""Estimate the antiferromagnetic coupling of each pair of magnetic sites.

    .. math:: J_{ij} = \sum_{i-X-j} \cos^2\theta_{iXj} + w \sum_{ij} (d_0 / d_{ij})^{10}

    with a first sum over all anions X bonded to both sites (Goodenough 1955, Kanamori 1959) and a
    small second sum over direct neighbors, both including periodic images.

    Parameters
    ----------
    structure
        Ordered crystal.
    magnetic
        Indices of the magnetic sites, (n_magnetic,).

    Returns
    -------
    NDArray
        (n_magnetic, n_magnetic), symmetric, in units of one bridge of 180 degrees. The energy
        per cell of an ordering is half the sum over :math:`s_i J_{ij} s_j`.
    """
    magnetic = np.asarray(magnetic)
    couplings = np.zeros((len(magnetic), len(magnetic)))
    row = np.full(len(structure), -1)
    row[magnetic] = np.arange(len(magnetic))
    center, other, image, distance = structure.get_neighbor_list(max(ANION_REACH, DIRECT_REACH))

    is_direct = (row[center] >= 0) & (row[other] >= 0) & (distance < DIRECT_REACH)
    direct = DIRECT_STRENGTH * (DIRECT_LENGTH / distance[is_direct]) ** DIRECT_DECAY
    np.add.at(couplings, (row[center[is_direct]], row[other[is_direct]]), direct)

    symbols = [site.specie.symbol for site in structure]
    anions = find_anions(symbols)
    anionic = np.array([symbol in anions for symbol in symbols])
    is_bond = (row[center] >= 0) & anionic[other] & (distance < ANION_REACH)
    shortest = np.full(len(structure), np.inf)
    np.minimum.at(shortest, center[is_bond], distance[is_bond])
    is_bond &= distance < BOND_FACTOR * shortest[center]
    metal, anion = row[center[is_bond]], other[is_bond]
    # Bond vectors at the anion distinguish the images of a metal around it.
    fractional = structure.frac_coords[other] + image - structure.frac_coords[center]
    bonds = structure.lattice.get_cartesian_coords(fractional[is_bond])  # (n_bonds, 3)
    bonds /= distance[is_bond][:, None]
    is_bridge = anion[:, None] == anion[None, :]
    np.fill_diagonal(is_bridge, val=False)
    first, second = np.nonzero(is_bridge)
    cosines = np.einsum("bx,bx->b", bonds[first], bonds[second])
    np.add.at(couplings, (metal[first], metal[second]), cosines**2)
    return couplings
