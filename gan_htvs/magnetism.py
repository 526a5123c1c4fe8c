"""Collinear magnetic orders from which a calculation with spin may start.

A ferromagnetic start has all moments parallel. The antiferromagnetic one turns as many strongly
coupled pairs of moments antiparallel as it can. How strongly two sites couple is read from the
geometry alone: superexchange through an anion is strong where the bond angle is 180 degrees and
absent at 90 degrees (Goodenough, Phys. Rev. 100, 564 (1955); Kanamori, J. Phys. Chem. Solids 10,
87 (1959)). No start is a prediction: both are converged, and the lower energy wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import spglib
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp.sets import MPRelaxSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

StartName = Literal["NM", "given", "FM", "AFM"]

SYMPREC = 0.01
"""Tolerance within which a relaxed structure is symmetrised, A."""

MAGNETIC_3D = frozenset({"Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu"})
"""3d elements whose d shell can be partly filled in an oxide (not Sc and Zn)."""

MOMENT_THRESHOLD = 0.3
"""Smaller starting moments are induced, not magnetism of their own; Bohr magnetons."""

SAME_MOMENT = 0.3
"""Sites of an element whose moments differ by less may be equivalent; Bohr magnetons."""

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

COMPENSATED = 0.1
"""Net moment per magnetic site up to which moments of both signs cancel, Bohr magnetons."""

MAX_ENUMERATED = 14
"""Up to this many magnetic sites every assignment of signs is tried."""

DESCENTS = 4
"""Start points of the search where there are more sites."""

TIE = 1e-6
"""Scores that differ by less, relative to all couplings, belong to equivalent arrangements."""

DOUBLINGS: tuple[tuple[tuple[int, int, int], ...], ...] = (
    *(((1, 0, x), (0, 1, y), (0, 0, 2)) for x in (0, 1) for y in (0, 1)),
    *(((1, x, 0), (0, 2, 0), (0, 0, 1)) for x in (0, 1)),
    ((2, 0, 0), (0, 1, 0), (0, 0, 1)),
)
"""Hermite normal forms of determinant 2: every cell of twice the volume, once."""


@dataclass(frozen=True)
class MagneticStart:
    """One magnetic order to start from."""

    name: StartName
    """NM: no magnetic site; given: the signs of the moments that came with the structure."""
    structure: Structure
    """Symmetrised primitive cell of the order, moments as site property ``magmom`` (Bohr
    magnetons)."""


def magnetic_starts(
    structure: Structure,
    magmoms: Sequence[float] | None = None,
    *,
    orders: Sequence[Literal["FM", "AFM"]] = ("FM", "AFM"),
) -> tuple[MagneticStart, ...]:
    """Propose the magnetic orders to try for a structure, deterministically.

    Parameters
    ----------
    structure
        Ordered crystal.
    magmoms
        Moment of each site, Bohr magnetons, see :func:`starting_moments`. Where they have both
        signs, that order is a start as well, and the first.
    orders
        The starts wanted of a magnetic structure.

    Raises
    ------
    ValueError
        If ``magmoms`` has not one number for each site.
    """
    moments = starting_moments(structure, magmoms)
    parallel = magnetic_primitive(structure, np.abs(moments).tolist())
    if not any(moments):
        return (MagneticStart("NM", parallel),)
    starts = []
    if min(moments) < 0 < max(moments):
        starts.append(MagneticStart("given", magnetic_primitive(structure, moments)))
    for order in orders:
        cell = parallel if order == "FM" else antiferromagnet(parallel)
        starts.append(MagneticStart(order, cell))
    return tuple(starts)


def starting_moments(structure: Structure, magmoms: Sequence[float] | None = None) -> list[float]:
    """Choose the moments to start from, Bohr magnetons.

    Given moments are kept if any is large, without the small induced ones. Otherwise 3d
    elements that can be magnetic start parallel at the values of the Materials Project.

    Raises
    ------
    ValueError
        If ``magmoms`` has not one number for each site.
    """
    if magmoms is not None:
        if len(magmoms) != len(structure):
            raise ValueError(f"{len(magmoms)=} differs from {len(structure)=}")
        kept = [float(m) if abs(m) > MOMENT_THRESHOLD else 0.0 for m in magmoms]
        if any(kept):
            return kept
    return [_default_moment(site.specie.symbol) for site in structure]


def _default_moment(symbol: str) -> float:
    if symbol not in MAGNETIC_3D:
        return 0.0
    return float(MPRelaxSet.CONFIG["INCAR"]["MAGMOM"].get(symbol, 0.6))


def magnetic_primitive(structure: Structure, moments: Sequence[float]) -> Structure:
    """Find the symmetrised primitive cell in which equivalent sites have equal moments.

    An antiferromagnetic order keeps the cell that it needs.

    Parameters
    ----------
    structure
        Ordered crystal.
    moments
        (n_sites,), Bohr magnetons.
    """
    groups = _moment_groups([site.specie.symbol for site in structure], moments)
    kinds = sorted(set(groups))
    means = {
        kind: float(np.mean([m for m, g in zip(moments, groups, strict=True) if g == kind]))
        for kind in kinds
    }
    cell = spglib.standardize_cell(
        (
            structure.lattice.matrix.tolist(),
            structure.frac_coords.tolist(),
            [kinds.index(group) for group in groups],
        ),
        to_primitive=True,
        no_idealize=False,
        symprec=SYMPREC,
    )
    if cell is None:
        primitive = structure.copy()
        found = groups
    else:
        lattice, coords, types = cell
        found = [kinds[i] for i in types]
        primitive = Structure(Lattice(lattice), [symbol for symbol, _ in found], coords)
    primitive.add_site_property("magmom", [means[kind] for kind in found])
    return primitive


def _moment_groups(symbols: Sequence[str], moments: Sequence[float]) -> list[tuple[str, int]]:
    """Label sites by element and moment, so that noise does not separate equal sites."""
    groups: list[tuple[str, int]] = [("", 0)] * len(symbols)
    order = sorted(range(len(symbols)), key=lambda i: (symbols[i], moments[i]))
    number = 0
    for previous, site in zip([None, *order], order, strict=False):
        if previous is not None and symbols[previous] == symbols[site]:
            number += moments[site] - moments[previous] > SAME_MOMENT
        else:
            number = 0
        groups[site] = (symbols[site], number)
    return groups


def antiferromagnet(parallel: Structure) -> Structure:
    """Turn moments over so that the coupled ones are antiparallel and, if possible, cancel.

    An odd number of magnetic sites does not cancel: the best of the cells of twice the volume
    is taken. Orders that need a larger cell are not considered.

    Parameters
    ----------
    parallel
        Primitive cell with positive moments as site property ``magmom``, Bohr magnetons; one
        at least is not zero.

    Returns
    -------
    Structure
        Symmetrised primitive cell of the antiferromagnetic order.
    """
    n_magnetic = np.count_nonzero(parallel.site_properties["magmom"])
    cells = [parallel]
    if n_magnetic % 2:
        cells = [parallel.make_supercell(hnf, in_place=False) for hnf in DOUBLINGS]
    best, lowest = (parallel, parallel.site_properties["magmom"]), np.inf
    for cell in cells:
        moments = np.asarray(cell.site_properties["magmom"], dtype=float)
        magnetic = np.flatnonzero(moments)
        score = _Score(magnetic_couplings(cell, magnetic), moments[magnetic])
        signs = score.best_signs()
        value = float(score(signs[None])[0])
        if value < lowest - TIE * score.scale:
            moments[magnetic] *= signs
            best, lowest = (cell, moments.tolist()), value
    return magnetic_primitive(*best)


def magnetic_couplings(structure: Structure, magnetic: ArrayLike) -> NDArray[np.float64]:
    r"""Estimate how strongly each pair of sites wants to be antiparallel.

    .. math:: J_{ij} = \sum_{i-X-j} \cos^2\theta_{iXj} + w \sum_{ij} (d_0 / d_{ij})^{10}

    with a first sum over all anions X bonded to both (Goodenough 1955, Kanamori 1959) and a
    small second one over direct neighbours; images of a site in other cells count.

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

    is_anion = np.array([_is_anion(site.specie) for site in structure])
    is_bond = (row[center] >= 0) & is_anion[other] & (distance < ANION_REACH)
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


def _is_anion(element: Any) -> bool:
    return bool(element.is_chalcogen or element.is_halogen or element.symbol == "N")


class _Score:
    """How bad an arrangement of signs is: coupling energy plus a penalty on a net moment."""

    def __init__(self, couplings: NDArray[np.float64], moments: NDArray[np.float64]) -> None:
        self.couplings = couplings  # (n, n)
        self.moments = moments  # (n,), Bohr magnetons
        self.scale = float(np.abs(couplings).sum()) or 1.0
        self.allowed = COMPENSATED * len(moments)

    def __call__(self, signs: NDArray[np.floating]) -> NDArray[np.float64]:
        """Score arrangements; (n_arrangements, n) of +1 and -1 -> (n_arrangements,)."""
        energies = 0.5 * np.einsum("ai,ij,aj->a", signs, self.couplings, signs, optimize=True)
        net = np.abs(signs @ self.moments)
        # Larger than every difference of energies, so that moments cancel where they can.
        return energies + 10 * self.scale * np.maximum(net - self.allowed, 0)

    def best_signs(self) -> NDArray[np.float64]:
        """Find the arrangement of lowest score, (n,), the first sign positive."""
        found = self._enumerate() if len(self.moments) <= MAX_ENUMERATED else self._search()
        return found * found[0]

    def _enumerate(self) -> NDArray[np.float64]:
        n = len(self.moments)
        # Turning all moments over changes nothing, so the first sign is fixed.
        numbers = np.arange(2 ** (n - 1))[:, None]
        signs = 1.0 - 2.0 * (numbers >> np.arange(n - 1, -1, -1) & 1)
        scores = self(signs)
        return signs[np.argmax(scores <= scores.min() + TIE * self.scale)]

    def _search(self) -> NDArray[np.float64]:
        """Descend from half-up, half-down arrangements along the softest modes of J."""
        ends = [self._descend(start) for start in self._modes()]
        scores = self(np.array(ends))
        return ends[int(np.argmax(scores <= scores.min() + TIE * self.scale))]

    def _modes(self) -> Iterator[NDArray[np.float64]]:
        _, vectors = np.linalg.eigh(self.couplings)
        for vector in vectors.T[:DESCENTS]:
            rank = np.argsort(np.argsort(vector, kind="stable"), kind="stable")
            yield np.where(rank < len(rank) // 2, 1.0, -1.0)

    def _descend(self, signs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn over the one or two moments that lower the score most until none does."""
        n = len(signs)
        first, second = np.triu_indices(n)
        turned: NDArray[np.float64] = np.ones((len(first), n))
        turned[np.arange(len(first)), first] = -1
        turned[np.arange(len(first)), second] = -1
        score = float(self(signs[None])[0])
        while True:
            candidates: NDArray[np.float64] = signs * turned
            scores = self(candidates)
            best = int(scores.argmin())
            if scores[best] >= score - TIE * self.scale:
                return signs
            signs, score = candidates[best], float(scores[best])
