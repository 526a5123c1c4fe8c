"""Enumerate inequivalent orderings of ions on the sites of a prototype.

Orderings are the orbits of site occupations (Hart & Forcade, Phys. Rev. B 2008, 77, 224115).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core import Structure

from gan_htvs.dataset.prototypes import anion_sites
from gan_htvs.structures.superlattices import INTEGRAL, space_group_operations

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from gan_htvs.core.chemical_system import Counts
    from gan_htvs.dataset.ions import Ions

MAX_OCCUPATIONS = 6_561
"""With more occupations of the sites, orderings are drawn at random instead of enumerated."""

SAMPLES_PER_COMPOSITION = 24
"""Orderings drawn per composition if there are too many to enumerate."""

VACANCY = ""
"""Symbol of an empty cation site."""


_EXACT = 2**53
"""Smaller integers are exact as floats."""

_CHUNK = 2_000_000
"""Upper bound on the array elements of the canonical form in memory."""


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


def site_permutations(structure: Structure) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the space group as permutations of the sites.

    Returns
    -------
    permutations
        (m, n_sites): site s goes to ``permutations[i, s]`` under operation i.
    is_translation
        (m,): True for pure translations other than the identity.
    """
    rotations, translations = space_group_operations(structure)
    coords = structure.frac_coords
    moved = np.einsum("mij,sj->msi", rotations, coords) + translations[:, None]
    difference = moved[:, :, None] - coords[None, None]
    difference -= difference.round()
    distance = np.linalg.norm(difference @ structure.lattice.matrix, axis=-1)
    permutations = distance.argmin(axis=-1)
    is_translation = (rotations == np.eye(3, dtype=int)).all(axis=(1, 2))
    is_translation &= np.abs(translations - np.round(translations)).max(axis=1) > INTEGRAL
    return permutations, is_translation


def all_occupations(options: Sequence[int]) -> NDArray[np.int8]:
    """Return all occupations of sites by ``options[s]`` species; (prod(options), n_sites)."""
    total = int(np.prod(options))
    return np.stack(np.unravel_index(np.arange(total), tuple(options)), axis=1).astype(np.int8)


def inequivalent_occupations(
    occupations: NDArray[np.int8],
    permutations: NDArray[np.intp],
    is_translation: NDArray[np.bool_],
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Select one occupation of each orbit, without those of a smaller primitive cell.

    Parameters
    ----------
    occupations
        (n, n_sites): index of the species on each site.
    permutations, is_translation
        Result of :func:`site_permutations`.

    Returns
    -------
    indices
        Indices of the selected occupations.
    point_group_orders
        Order of the point group of each selected occupation.
    """
    n_sites = occupations.shape[1]
    base = int(occupations.max(initial=0)) + 1
    # Sites with the same species in all occupations would only lengthen the keys.
    varies = (occupations != occupations[:1]).any(axis=0)
    weights = np.zeros(n_sites, dtype=np.int64)
    if base ** int(varies.sum()) < _EXACT:
        weights[varies] = base ** np.arange(varies.sum(), dtype=np.int64)
    else:
        random = np.random.default_rng(0)
        weights[varies] = random.integers(_EXACT // (base * n_sites), size=varies.sum())
    # An operation maps occupation c to c[P^-1 s]; as the group contains every inverse, P is used
    # instead. The key is a weighted sum: key_P(c) = sum_s w[s] c[P s].
    permuted_weights = np.zeros((len(permutations), n_sites), dtype=np.int64)
    rows = np.arange(len(permutations))[:, None]
    permuted_weights[rows, permutations] = weights
    canonical = np.empty(len(occupations), dtype=np.int64)
    fixed = np.empty(len(occupations), dtype=np.int64)
    primitive = np.empty(len(occupations), dtype=bool)
    step = max(1, _CHUNK // len(permutations))
    # Floats are exact below 2^53, and NumPy multiplies them by BLAS, unlike integers.
    transposed = permuted_weights.T.astype(float)
    for start in range(0, len(occupations), step):
        chunk = slice(start, start + step)
        keys = occupations[chunk].astype(float) @ transposed
        own = occupations[chunk].astype(float) @ weights.astype(float)
        same = keys == own[:, None]
        canonical[chunk] = keys.min(axis=1)
        fixed[chunk] = same.sum(axis=1)
        primitive[chunk] = ~same[:, is_translation].any(axis=1)
    candidates = np.flatnonzero(primitive)
    _, first = np.unique(canonical[candidates], return_index=True)
    indices = candidates[np.sort(first)]
    return indices, fixed[indices]
