"""How strongly magnetic sites couple, read from the geometry alone.

Superexchange through an anion is strong where the bond angle is 180 degrees and absent at 90
degrees (Goodenough, Phys. Rev. 100, 564 (1955); Kanamori, J. Phys. Chem. Solids 10, 87 (1959)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gan_htvs.chemistry import is_anion

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from pymatgen.core import Structure

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
