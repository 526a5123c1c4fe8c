"""Candidates against each other: the hull of reference phases and of everything that was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gan_htvs.thermodynamics.hull import LowerHull, named_shares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gan_htvs.thermodynamics.hull import ReferenceSet

RIVALS = 2
"""Crystals of one composition that can shape the hull: when the lowest is taken out to see how
far it lies below the rest, the second steps in."""


@dataclass(frozen=True)
class HullCandidates:
    """Candidates of one level of theory.

    Attributes
    ----------
    names
        (n,): how each is called where others decompose into it.
    formulas
        (n,): compositions; multiples do not matter.
    energies
        (n,): eV/atom, corrections included.
    crystals
        (n,): equal for candidates that are the same crystal.
    competes
        (n,): False for those that may not shape the hull, such as holes of a potential.
    """

    names: Sequence[str]
    formulas: Sequence[str]
    energies: NDArray[np.float64]
    crystals: Sequence[str]
    competes: NDArray[np.bool_]


@dataclass(frozen=True)
class HullDistances:
    """Where each candidate lies: energies above the hull (n,), eV/atom, and what it decays to."""

    energies_above_hull: NDArray[np.float64]
    decomposes_to: list[dict[str, float]]


def compare_on_hull(references: ReferenceSet, candidates: HullCandidates) -> HullDistances:
    """Compare every candidate with the references and all *other* candidates.

    A crystal is not compared with itself, nor with its duplicates: one that is stable lies below
    the hull of the others, by as much as it is stable.

    Raises
    ------
    UserError
        If the references lack an element of a candidate.
    """
    energies, crystals = candidates.energies, np.array(candidates.crystals)
    formulas, of = np.unique(np.array(candidates.formulas), return_inverse=True)
    fractions = references.fractions(formulas.tolist())[of]
    rivals = _rivals(candidates, of)
    points = np.vstack([references.hull.fractions, fractions[rivals]])
    heights = np.concatenate([references.hull.energies, energies[rivals]])
    names = [
        *(entry.composition.reduced_formula for entry in references.entries),
        *(candidates.names[i] for i in rivals),
    ]

    whole = LowerHull(points, heights)
    above = energies - whole.energies_at(fractions)
    decomposes_to = named_shares(names, *whole.decompose(fractions))
    n_references = len(references.entries)
    for vertex in whole.vertices[whole.vertices >= n_references]:
        own = np.flatnonzero(crystals == crystals[rivals[vertex - n_references]])
        others = np.delete(np.arange(len(points)), vertex)
        hull = LowerHull(points[others], heights[others])
        above[own] = energies[own] - hull.energies_at(fractions[own])
        found = named_shares([names[i] for i in others], *hull.decompose(fractions[own]))
        for i, products in zip(own, found, strict=True):
            decomposes_to[i] = products
    return HullDistances(above, decomposes_to)


def _rivals(candidates: HullCandidates, compositions: NDArray[np.int64]) -> list[int]:
    """Find the lowest crystals of each composition: indices, one candidate of each crystal."""
    seen: set[str] = set()
    taken: dict[int, list[int]] = {}
    for i in np.argsort(candidates.energies, kind="stable").tolist():
        here = taken.setdefault(compositions[i], [])
        if candidates.competes[i] and len(here) < RIVALS and candidates.crystals[i] not in seen:
            here.append(i)
            seen.add(candidates.crystals[i])
    return sorted(i for here in taken.values() for i in here)
