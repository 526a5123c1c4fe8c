"""Cell volumes from bond valences.

The valence of a bond is exp((R0 - d) / 0.37 A), with the R0 of O'Keeffe & Brese, J. Am. Chem. Soc.
1991, 113, 3226, with the element parameters in pymatgen.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.analysis.bond_valence import BV_PARAMS
from pymatgen.core import Element, Structure
from scipy.optimize import brentq

if TYPE_CHECKING:
    from numpy.typing import NDArray

SOFTNESS = 0.37
"""Universal bond-valence parameter b, A."""

_CUTOFF = 3.4
"""Longer bonds carry hardly any valence, A, at a mean nearest bond length of 2 A."""
_SCALE_RANGE = (0.6, 2.0)


def has_parameters(symbol: str) -> bool:
    """Return whether bond-valence parameters are known for an element."""
    return Element(symbol) in BV_PARAMS


@cache
def bond_length(first: str, second: str) -> float:
    """Return the length of a bond of valence one between two elements, A."""
    r1, c1 = (BV_PARAMS[Element(first)][key] for key in ("r", "c"))
    r2, c2 = (BV_PARAMS[Element(second)][key] for key in ("r", "c"))
    return r1 + r2 - r1 * r2 * (np.sqrt(c1) - np.sqrt(c2)) ** 2 / (c1 * r1 + c2 * r2)


def fit_volume(
    structure: Structure, charges: NDArray[np.float64]
) -> tuple[Structure, float] | None:
    """Scale a structure until its bond-valence sums match the charges of its ions.

    Parameters
    ----------
    structure
        Structure at a volume within a factor of about four of the result.
    charges
        (n_sites,): formal charges, which sum to zero.

    Returns
    -------
    structure
        Scaled copy.
    instability
        Root mean square difference between bond-valence sum and charge over all ions (the global
        instability index), in valence units.

    None if no volume within reach matches.
    """
    center, neighbor, _, distance = structure.get_neighbor_list(_CUTOFF)
    bonded = (charges[center] > 0) & (charges[neighbor] < 0)
    cation, anion, distance = center[bonded], neighbor[bonded], distance[bonded]
    symbols = [site.specie.symbol for site in structure]
    elements, kind = np.unique(symbols, return_inverse=True)
    lengths = np.array([[bond_length(a, b) for b in elements] for a in elements])
    unit = lengths[kind[cation], kind[anion]]
    total = charges[charges > 0].sum()

    def excess(scale: float) -> float:
        return float(np.exp((unit - scale * distance) / SOFTNESS).sum() - total)

    if not excess(_SCALE_RANGE[0]) > 0 > excess(_SCALE_RANGE[1]):
        return None
    scale = brentq(excess, *_SCALE_RANGE, xtol=1e-6)
    valences = np.exp((unit - scale * distance) / SOFTNESS)
    sums = np.bincount(cation, valences, len(charges)) + np.bincount(anion, valences, len(charges))
    scaled = structure.copy()
    scaled.scale_lattice(structure.volume * scale**3)
    return scaled, float(np.sqrt(np.mean((sums - np.abs(charges)) ** 2)))
