"""Joint hull of reference phases and candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Composition

from gan_htvs.thermodynamics.hull import NEGLIGIBLE, LowerHull, named_shares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gan_htvs.thermodynamics.hull import ReferenceSet

CRYSTALS_PER_COMPOSITION = 2
"""Crystals of one composition that can be on the hull: the lowest one, and the second lowest one
when the lowest is removed to compute its distance from the others."""


def compare_on_hull(
    references: ReferenceSet,
    *,
    names: Sequence[str],
    formulas: Sequence[str],
    energies: NDArray[np.float64],
    crystals: Sequence[str],
    competes: NDArray[np.bool_],
    is_reference: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], list[dict[str, float]]]:
    """Compute decomposition energies of candidates on the hull of references and candidates.

    The decomposition energy of an unstable phase is its energy above the hull of all phases. That
    of a stable phase is negative or zero: its energy relative to the hull of all *other* phases,
    polymorphs included. It is zero for an element without another polymorph, which can decompose
    into nothing else.

    Parameters
    ----------
    references
        Reference phases.
    names
        (n,): names, used in the decomposition of other candidates.
    formulas
        (n,): formulas of any number of formula units.
    energies
        (n,): eV/atom, corrections included.
    crystals
        (n,): labels, equal for candidates that are the same crystal.
    competes
        (n,): False for candidates that are not part of the hull, such as implausible ones.
    is_reference
        (n,): True for reference phases and candidates that are the same crystal as one. They are
        represented on the hull by their entry in the references, whatever ``competes`` is.

    Returns
    -------
    Decomposition energies, (n,), eV/atom, and the phases into which the candidates decompose, with
    fractions of atoms. For a stable phase these are the competing phases.

    Raises
    ------
    UserError
        If the references lack an element of a candidate.
    """
    unique, inverse = np.unique(np.array(formulas), return_inverse=True)
    elements = {symbol for formula in unique for symbol in Composition(formula).get_el_amt_dict()}
    references = references.within(elements & set(references.elements))
    fractions = references.fractions(unique.tolist())[inverse]
    competing = _competing(inverse, energies, crystals, competes & ~is_reference)
    points = np.vstack([references.hull.fractions, fractions[competing]])
    hull_energies = np.concatenate([references.hull.energies, energies[competing]])
    hull_names = [
        *(entry.name for entry in references.entries),
        *(names[i] for i in competing),
    ]

    joint = LowerHull(points, hull_energies)
    distances = joint.distances(fractions, energies)
    decomposes_to = named_shares(hull_names, *joint.decompose(fractions))
    stable = np.flatnonzero((competes | is_reference) & (distances <= 0))
    for vertex in joint.vertices:
        own = stable[_equal(fractions[stable], points[vertex])]
        others = np.delete(np.arange(len(points)), vertex)
        is_element = points[vertex].max() == 1
        if not own.size or (is_element and not _equal(points[others], points[vertex]).any()):
            continue
        hull = LowerHull(points[others], hull_energies[others])
        distances[own] = hull.distances(fractions[own], energies[own])
        decompositions = named_shares(
            [hull_names[i] for i in others], *hull.decompose(fractions[own])
        )
        for i, products in zip(own, decompositions, strict=True):
            decomposes_to[i] = products
    return distances, decomposes_to


def _equal(fractions: NDArray[np.float64], composition: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which atomic fractions, (n, E), are those of a composition, (E,)."""
    deviations: NDArray[np.float64] = np.abs(fractions - composition).max(axis=1)
    return deviations < NEGLIGIBLE


def _competing(
    compositions: NDArray[np.int64],
    energies: NDArray[np.float64],
    crystals: Sequence[str],
    competes: NDArray[np.bool_],
) -> list[int]:
    """Return indices of the lowest crystals of each composition, one candidate per crystal."""
    seen: set[str] = set()
    lowest: dict[int, list[int]] = {}
    for i in np.argsort(energies, kind="stable").tolist():
        same_composition = lowest.setdefault(compositions[i], [])
        if (
            competes[i]
            and len(same_composition) < CRYSTALS_PER_COMPOSITION
            and crystals[i] not in seen
        ):
            same_composition.append(i)
            seen.add(crystals[i])
    return sorted(i for indices in lowest.values() for i in indices)
