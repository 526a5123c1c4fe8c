"""Enumerate inequivalent orderings of ions on the sites of a prototype."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core import Structure

from gan_htvs.dataset.cation_orderings import (
    all_occupations,
    inequivalent_occupations,
    site_permutations,
)
from gan_htvs.dataset.prototypes import anion_sites

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from gan_htvs.core.chemical_system import Counts
    from gan_htvs.dataset.formal_charges import Ions

MAX_OCCUPATIONS = 6_561
"""With more occupations of the sites, orderings are drawn at random instead of enumerated."""

SAMPLES_PER_COMPOSITION = 24
"""Orderings drawn per composition if there are too many to enumerate."""

VACANCY = ""
"""Symbol of an empty cation site."""


@dataclass(frozen=True, eq=False)
class Ordering:
    """An occupation of a supercell; energy in eV."""

    energy: float
    point_group_order: int
    occupation: NDArray[np.int8]
    supercell: Supercell


class Supercell:
    """Sites of a prototype to be decorated with the elements of a chemical system.

    Occupation k means ``cations[k]`` on a cation site, which may be a vacancy, and
    ``ions.anions[k]`` on an anion site.
    """

    def __init__(self, structure: Structure, ions: Ions, *, vacancies: bool) -> None:
        self.structure = structure
        self.is_anion = anion_sites(structure)
        self.ions = ions
        self.cations = (*ions.cations, VACANCY) if vacancies else ions.cations

    def orderings(self, balanced: Sequence[Counts]) -> Iterator[tuple[Counts, Ordering]]:
        """Yield the inequivalent orderings of the ``balanced`` cell formulas."""
        compositions = self._compositions(balanced)
        if not compositions:
            return
        occupations = self._occupations(compositions)
        indices, orders = inequivalent_occupations(occupations, *site_permutations(self.structure))
        if not len(indices):
            return
        occupations = occupations[indices]
        counts = self._counts(occupations)
        charges = self._charges(occupations, counts)
        energies = np.einsum("ns,st,nt->n", charges, self._ewald_matrix(), charges)
        for row, energy, order, occupation in zip(
            counts.tolist(), energies.tolist(), orders.tolist(), occupations, strict=True
        ):
            yield tuple(row), Ordering(energy, order, occupation, self)

    def decorate(self, occupation: NDArray[np.int8]) -> Structure:
        """Build the structure of an occupation, sites grouped in the order of the system."""
        symbols = self._symbols(occupation)
        sites = [s for el in self.ions.system.elements for s in np.flatnonzero(symbols == el)]
        return Structure(
            self.structure.lattice, symbols[sites].tolist(), self.structure.frac_coords[sites]
        )

    def _symbols(self, occupations: NDArray[np.int8]) -> NDArray[np.str_]:
        """Return the element on each site, in the shape of ``occupations``."""
        on_cations = np.array(self.cations)[np.minimum(occupations, len(self.cations) - 1)]
        anions = self.ions.anions
        on_anions = np.array(anions)[np.minimum(occupations, len(anions) - 1)]
        return np.where(self.is_anion, on_anions, on_cations)

    def _counts(self, occupations: NDArray[np.int8]) -> NDArray[np.int64]:
        """Count the atoms of each element; (n, n_elements)."""
        symbols = self._symbols(occupations)
        elements = self.ions.system.elements
        return np.stack([(symbols == el).sum(axis=1) for el in elements], axis=1)

    def _compositions(self, balanced: Sequence[Counts]) -> list[Counts]:
        """Return the cell formulas that fit these sites."""
        n_anions = int(self.is_anion.sum())
        n_cations = len(self.is_anion) - n_anions
        fewest = 1 if VACANCY in self.cations else n_cations
        return [
            counts
            for counts in balanced
            if self.ions.n_anions(counts) == n_anions
            and fewest <= sum(counts) - n_anions <= n_cations
        ]

    def _occupations(self, compositions: Sequence[Counts]) -> NDArray[np.int8]:
        """Enumerate the occupations of the compositions, or draw some if too many; (n, n_sites)."""
        options = np.where(self.is_anion, len(self.ions.anions), len(self.cations)).tolist()
        if prod(options) <= MAX_OCCUPATIONS:
            occupations = all_occupations(options)
            fitting = set(compositions)
            counts = self._counts(occupations).tolist()
            return occupations[[tuple(row) in fitting for row in counts]]
        random = np.random.default_rng(0)
        drawn = np.empty(
            (len(compositions), SAMPLES_PER_COMPOSITION, len(self.is_anion)), dtype=np.int8
        )
        for composition, rows in zip(compositions, drawn, strict=True):
            amounts = dict(zip(self.ions.system.elements, composition, strict=True))
            sites = ((self.is_anion, self.ions.anions), (~self.is_anion, self.cations))
            for mask, elements in sites:
                filled = [k for k, el in enumerate(elements) for _ in range(amounts.get(el, 0))]
                # Only vacancies, the last species, can fill the rest.
                filled += [len(elements) - 1] * (int(mask.sum()) - len(filled))
                rows[:, mask] = random.permuted(np.tile(filled, (len(rows), 1)), axis=1)
        return drawn.reshape(-1, len(self.is_anion))

    def _charges(
        self, occupations: NDArray[np.int8], counts: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the formal charge on each site, zero on vacancies; (n, n_sites)."""
        charges = self.ions.formal_charges(counts)
        elements = np.array(self.ions.system.elements)
        is_element = self._symbols(occupations)[:, None] == elements[:, None]
        return (charges[..., None] * is_element).sum(axis=1)

    def _ewald_matrix(self) -> NDArray[np.float64]:
        """Compute the electrostatic energy of pairs of unit charges, eV; (n_sites, n_sites)."""
        ions = self.structure.copy()
        ions.add_oxidation_state_by_site([1.0] * len(ions))
        return EwaldSummation(ions).total_energy_matrix
