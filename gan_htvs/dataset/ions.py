"""Cations and anions of a chemical system, their formal charges and bond valences.

The valence of a bond is exp((R0 - d) / 0.37 A), with the R0 of O'Keeffe & Brese, J. Am. Chem. Soc.
1991, 113, 3226, with the element parameters in pymatgen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.analysis.bond_valence import BV_PARAMS
from pymatgen.core import Element, Structure
from scipy.optimize import brentq

from gan_htvs.core.chemical_system import find_anions
from gan_htvs.core.errors import UserError
from gan_htvs.dataset.polyanions import Polyanions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from gan_htvs.core.chemical_system import ChemicalSystem, OxidationRanges

SOFTNESS = 0.37
"""Universal bond-valence parameter b, A."""

_CUTOFF = 3.4
"""Longer bonds carry hardly any valence, A, at a mean nearest bond length of 2 A."""
_LONGEST = 4.0
"""Longer bonds of metals are neglected beside polyanions, A."""
_SCALE_RANGE = (0.6, 2.0)


@dataclass(frozen=True)
class Ions:
    """A chemical system of cations and anions with known bond valences.

    Attributes
    ----------
    system, oxidation_states
        Elements, caps, and the average oxidation states that each element may have.
    needed_by, fix
        For the error message: what needs the ions, and the suggested fix.

    Raises
    ------
    UserError
        If the elements do not divide into cations and anions with known bond valences.
    """

    system: ChemicalSystem
    oxidation_states: OxidationRanges
    needed_by: str = "dataset.source 'prototypes'"
    fix: str = "set dataset.source to 'array' and give dataset.path"

    def __post_init__(self) -> None:
        elements = self.system.elements
        signed = len(self.cations) + len(self.anions)
        if not self.cations or not self.anions or signed < len(elements):
            raise UserError(
                f"{self.needed_by} needs cations and anions, but oxidation_states of "
                f"{self.system.chemsys} does not separate them; {self.fix}."
            )
        if unknown := [el for el in elements if Element(el) not in BV_PARAMS]:
            raise UserError(
                f"{self.needed_by} has no bond valences for {', '.join(unknown)}; {self.fix}."
            )

    @cached_property
    def cations(self) -> tuple[str, ...]:
        """Elements whose oxidation states are not negative, in row order."""
        return tuple(el for el in self.system.elements if self.oxidation_states[el][0] >= 0)

    @cached_property
    def anions(self) -> tuple[str, ...]:
        """Elements whose oxidation states are negative, in row order."""
        anions = find_anions(self.system.elements, self.oxidation_states)
        return tuple(el for el in self.system.elements if el in anions)

    def n_anions(self, counts: Sequence[int]) -> int:
        """Count the anions of a cell formula."""
        return sum(compress(counts, (el in self.anions for el in self.system.elements)))

    def formal_charges(self, counts: ArrayLike) -> NDArray[np.float64]:
        """Compute formal charges at the same fraction of the range of every element.

        For MgMn2O4 with 2 <= OS(Mn) <= 4 the result is Mn 3+.

        Parameters
        ----------
        counts
            (..., n_elements): charge-balanced cell formulas.

        Returns
        -------
        (..., n_elements): charge of each element.
        """
        ranges = np.array([self.oxidation_states[el] for el in self.system.elements], dtype=float)
        totals = np.asarray(counts) @ ranges
        lowest, reach = totals[..., 0], totals[..., 1] - totals[..., 0]
        fraction = -lowest / np.where(reach == 0, 1, reach)
        return ranges[:, 0] + fraction[..., None] * (ranges[:, 1] - ranges[:, 0])


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

    Polyanions are kept rigid, at the bond lengths that the charge of their center requires; the
    cell is scaled until the metals have their charges.

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
    polyanions = Polyanions.find(structure, charges)
    if polyanions is not None:
        return _fit_around_polyanions(structure, charges, polyanions)
    center, neighbor, _, distance = structure.get_neighbor_list(_CUTOFF)
    bonded = (charges[center] > 0) & (charges[neighbor] < 0)
    cation, anion, distance = center[bonded], neighbor[bonded], distance[bonded]
    unit = _unit_lengths(structure, cation, anion)
    total = charges[charges > 0].sum()

    def excess(scale: float) -> float:
        return float(np.exp((unit - scale * distance) / SOFTNESS).sum() - total)

    if not excess(_SCALE_RANGE[0]) > 0 > excess(_SCALE_RANGE[1]):
        return None
    scale = brentq(excess, *_SCALE_RANGE, xtol=1e-6)
    valences = np.exp((unit - scale * distance) / SOFTNESS)
    scaled = structure.copy()
    scaled.scale_lattice(structure.volume * scale**3)
    return scaled, _instability(charges, cation, anion, valences)


def _fit_around_polyanions(
    structure: Structure, charges: NDArray[np.float64], polyanions: Polyanions
) -> tuple[Structure, float] | None:
    """Scale the cell around rigid polyanions, as in :func:`fit_volume`."""
    unit = _unit_lengths(structure, polyanions.centers, polyanions.anions)
    lengths = np.linalg.norm(polyanions.bonds, axis=1)
    factors = np.empty(len(lengths))
    for center in np.unique(polyanions.centers):
        bonds = polyanions.centers == center
        factors[bonds] = _bond_factor(unit[bonds], lengths[bonds], charges[center])
    rigid = polyanions.with_bond_lengths(factors)
    is_metal = charges > 0
    is_metal[polyanions.centers] = False
    total = charges[is_metal].sum()

    def excess(scale: float) -> float:
        cation, _, valences = _bond_valences(rigid.scaled(structure, scale), charges)
        return float(valences[is_metal[cation]].sum() - total)

    if not excess(_SCALE_RANGE[0]) > 0 > excess(_SCALE_RANGE[1]):
        return None
    scaled = rigid.scaled(structure, brentq(excess, *_SCALE_RANGE, xtol=1e-4))
    return scaled, _instability(charges, *_bond_valences(scaled, charges))


def _bond_factor(unit: NDArray[np.float64], lengths: NDArray[np.float64], charge: float) -> float:
    """Return the factor on the lengths of the bonds of a center that gives it its charge."""

    def excess(factor: float) -> float:
        return float(np.exp((unit - factor * lengths) / SOFTNESS).sum() - charge)

    return float(brentq(excess, 0.0, _LONGEST / lengths.min()))


def _bond_valences(
    structure: Structure, charges: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return cation, anion and valence of every bond, each (m,)."""
    center, neighbor, _, distance = structure.get_neighbor_list(_LONGEST)
    bonded = (charges[center] > 0) & (charges[neighbor] < 0)
    cation, anion = center[bonded], neighbor[bonded]
    unit = _unit_lengths(structure, cation, anion)
    return cation, anion, np.exp((unit - distance[bonded]) / SOFTNESS)


def _unit_lengths(
    structure: Structure, cations: NDArray[np.int64], anions: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the lengths of bonds of valence one between pairs of sites, (m,), A."""
    symbols = [site.specie.symbol for site in structure]
    elements, kind = np.unique(symbols, return_inverse=True)
    lengths = np.array([[bond_length(a, b) for b in elements] for a in elements])
    return np.asarray(lengths[kind[cations], kind[anions]])


def _instability(
    charges: NDArray[np.float64],
    cations: NDArray[np.int64],
    anions: NDArray[np.int64],
    valences: NDArray[np.float64],
) -> float:
    """Compute the global instability index, valence units."""
    n = len(charges)
    sums = np.bincount(cations, valences, n) + np.bincount(anions, valences, n)
    return float(np.sqrt(np.mean((sums - np.abs(charges)) ** 2)))
