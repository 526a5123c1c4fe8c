"""Joint hull of reference phases and candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Composition

from gan_htvs.thermodynamics.hull import LowerHull, named_shares

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
) -> tuple[NDArray[np.float64], list[dict[str, float]]]:
    """Compare every candidate of a level of theory with the references and all *other* candidates.

    A crystal is not compared with itself or its duplicates. The energy above hull of a stable
    crystal is negative: its distance below the hull of the others.

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

    Returns
    -------
    Energies above the hull, (n,), eV/atom, and decompositions.

    Raises
    ------
    UserError
        If the references lack an element of a candidate.
    """
    unique, inverse = np.unique(np.array(formulas), return_inverse=True)
    elements = {symbol for formula in unique for symbol in Composition(formula).get_el_amt_dict()}
    references = references.within(elements & set(references.elements))
    fractions = references.fractions(unique.tolist())[inverse]
    competing = _competing(inverse, energies, crystals, competes)
    points = np.vstack([references.hull.fractions, fractions[competing]])
    hull_energies = np.concatenate([references.hull.energies, energies[competing]])
    hull_names = [
        *(entry.composition.reduced_formula for entry in references.entries),
        *(names[i] for i in competing),
    ]

    joint = LowerHull(points, hull_energies)
    above = joint.distances(fractions, energies)
    decomposes_to = named_shares(hull_names, *joint.decompose(fractions))
    n_references, labels = len(references.entries), np.array(crystals)
    for vertex in joint.vertices[joint.vertices >= n_references]:
        own = np.flatnonzero(labels == labels[competing[vertex - n_references]])
        others = np.delete(np.arange(len(points)), vertex)
        hull = LowerHull(points[others], hull_energies[others])
        above[own] = hull.distances(fractions[own], energies[own])
        decompositions = named_shares(
            [hull_names[i] for i in others], *hull.decompose(fractions[own])
        )
        for i, products in zip(own, decompositions, strict=True):
            decomposes_to[i] = products
    return above, decomposes_to


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
