"""Find polyanions such as CO3(2-) and SO4(2-), and keep them rigid when a cell is scaled.

In calcite, the C-O distance hardly depends on the metal. A cell is therefore scaled by moving the
centers of the polyanions; their anions keep the distance that the bond valence of the center
requires.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Element, Structure

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from numpy.typing import NDArray

MAX_ANIONS = 4
"""Largest number of anions around a center; more are shared with metals in most crystals."""

SHELL = 1.3
"""Anions belong to a center up to this multiple of its shortest distance to an anion."""

_REACH = 3.4
"""Search radius around a center, A, at a mean nearest bond length of 2 A."""


def center_elements(cations: Iterable[str]) -> tuple[str, ...]:
    """Return the cations that bind anions covalently: nonmetals and metalloids except hydrogen."""
    return tuple(el for el in cations if el != "H" and not Element(el).is_metal)


@dataclass(frozen=True)
class Polyanions:
    """Anions of a structure that are bonded to one center each.

    Attributes
    ----------
    centers, anions
        (m,): indices of the center and of the anion of each bond.
    bonds
        (m, 3): vectors from center to anion, A.
    """

    centers: NDArray[np.int64]
    anions: NDArray[np.int64]
    bonds: NDArray[np.float64]

    @classmethod
    def find(cls, structure: Structure, charges: NDArray[np.float64]) -> Self | None:
        """Find the polyanions of a structure.

        Parameters
        ----------
        structure
            Decorated prototype.
        charges
            (n_sites,): formal charges.

        Returns
        -------
        The polyanions; None if there is no center, a center has no or more than ``MAX_ANIONS``
        anions, or two centers share an anion.
        """
        symbols = [site.specie.symbol for site in structure]
        names = center_elements(s for s, q in zip(symbols, charges, strict=True) if q > 0)
        is_center = np.array([symbol in names for symbol in symbols]) & (charges > 0)
        if not is_center.any():
            return None
        first, second, images, distances = structure.get_neighbor_list(_REACH)
        bonded = is_center[first] & (charges[second] < 0)
        first, second, images, distances = (
            values[bonded] for values in (first, second, images, distances)
        )
        shortest = np.full(len(structure), np.inf)
        np.minimum.at(shortest, first, distances)
        near = distances <= SHELL * shortest[first]
        first, second, images = first[near], second[near], images[near]
        numbers = np.bincount(first, minlength=len(structure))[is_center]
        if numbers.min() < 1 or numbers.max() > MAX_ANIONS or len(np.unique(second)) < len(second):
            return None
        fractional = structure.frac_coords[second] + images - structure.frac_coords[first]
        return cls(first, second, structure.lattice.get_cartesian_coords(fractional))

    def with_bond_lengths(self, factors: NDArray[np.float64]) -> Polyanions:
        """Return polyanions with every bond multiplied by its factor, (m,)."""
        return Polyanions(self.centers, self.anions, self.bonds * factors[:, None])

    def scaled(self, structure: Structure, scale: float) -> Structure:
        """Return the structure with its lattice vectors times ``scale`` and rigid polyanions."""
        lattice = structure.lattice.scale(structure.volume * scale**3)
        frac_coords = structure.frac_coords.copy()
        bonds = lattice.get_fractional_coords(self.bonds)
        frac_coords[self.anions] = frac_coords[self.centers] + bonds
        return Structure(lattice, structure.species, frac_coords)
