"""Joint hull of reference phases and candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gan_htvs.thermodynamics.hull import LowerHull, named_shares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gan_htvs.thermodynamics.hull import ReferenceSet

CRYSTALS_PER_COMPOSITION = 2
"""Crystals of one composition that can be on the hull: the lowest one, and the second lowest one
when the lowest is removed to compute its distance from the others."""


@dataclass(frozen=True)
class HullCandidates:
    """Candidates of one level of theory.

    Attributes
    ----------
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
    """

    names: Sequence[str]
    formulas: Sequence[str]
    energies: NDArray[np.float64]
    crystals: Sequence[str]
    competes: NDArray[np.bool_]


@dataclass(frozen=True)
class HullDistances:
    """Energies of candidates above the joint hull, (n,), eV/atom, and their decompositions."""

    energies_above_hull: NDArray[np.float64]
    decomposes_to: list[dict[str, float]]


def compare_on_hull(references: ReferenceSet, candidates: HullCandidates) -> HullDistances:
    """Compare every candidate with the references and all *other* candidates.

    A crystal is not compared with itself or its duplicates. The energy above hull of a stable
    crystal is negative: its distance below the hull of the others.

    Raises
    ------
    UserError
        If the references lack an element of a candidate.
    """
    energies, crystals = candidates.energies, np.array(candidates.crystals)
    formulas, inverse = np.unique(np.array(candidates.formulas), return_inverse=True)
    fractions = references.fractions(formulas.tolist())[inverse]
    competing = _competing(candidates, inverse)
    points = np.vstack([references.hull.fractions, fractions[competing]])
    hull_energies = np.concatenate([references.hull.energies, energies[competing]])
    names = [
        *(entry.composition.reduced_formula for entry in references.entries),
        *(candidates.names[i] for i in competing),
    ]

    joint = LowerHull(points, hull_energies)
    above = energies - joint.energies_at(fractions)
    decomposes_to = named_shares(names, *joint.decompose(fractions))
    n_references = len(references.entries)
    for vertex in joint.vertices[joint.vertices >= n_references]:
        own = np.flatnonzero(crystals == crystals[competing[vertex - n_references]])
        others = np.delete(np.arange(len(points)), vertex)
        hull = LowerHull(points[others], hull_energies[others])
        above[own] = energies[own] - hull.energies_at(fractions[own])
        decompositions = named_shares([names[i] for i in others], *hull.decompose(fractions[own]))
        for i, products in zip(own, decompositions, strict=True):
            decomposes_to[i] = products
    return HullDistances(above, decomposes_to)


def _competing(candidates: HullCandidates, compositions: NDArray[np.int64]) -> list[int]:
    """Return indices of the lowest crystals of each composition, one candidate per crystal."""
    seen: set[str] = set()
    lowest: dict[int, list[int]] = {}
    for i in np.argsort(candidates.energies, kind="stable").tolist():
        crystals = lowest.setdefault(compositions[i], [])
        if (
            candidates.competes[i]
            and len(crystals) < CRYSTALS_PER_COMPOSITION
            and candidates.crystals[i] not in seen
        ):
            crystals.append(i)
            seen.add(candidates.crystals[i])
    return sorted(i for crystals in lowest.values() for i in crystals)
