"""Energies above the convex hull, of any number of candidates at once.

Over the atomic fractions of a chemical system, the lower convex hull of some energies is the
highest of the planes of its facets. A plane is the set of chemical potentials at which the phases
at the corners of the facet coexist, so that evaluating a hull is one matrix product and one
maximum.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from pydantic import ConfigDict, Field, field_validator, model_validator
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition
from scipy.spatial import ConvexHull

from gan_htvs.core.document import Document
from gan_htvs.core.errors import UserError
from gan_htvs.core.hashing import content_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

CompositionLike: TypeAlias = str | Composition

NEGLIGIBLE = 1e-8
"""Smaller atomic fractions are rounding errors, and flatter facets look upwards."""


ROUNDED = 12
"""Digits to which compositions are the same."""
FLAT = 1e-12
"""Facets of less volume hold no composition between their corners."""


class LowerHull:
    """Lower convex hull of energies over compositions.

    Parameters
    ----------
    fractions
        (n, E): composition of each point, rows that sum to 1. The pure ones must be among them.
    energies
        (n,) in eV per whatever the fractions count.

    Attributes
    ----------
    potentials
        (F, E): chemical potential of each element on each facet, eV.
    corners
        (F, E): the points that span each facet.
    """

    potentials: NDArray[np.float64]
    corners: NDArray[np.int64]

    def __init__(self, fractions: ArrayLike, energies: ArrayLike) -> None:
        self.fractions = np.asarray(fractions, dtype=float)
        self.energies = np.asarray(energies, dtype=float)
        n_elements = self.fractions.shape[1]
        if n_elements == 1:
            lowest = int(self.energies.argmin())
            self.potentials = self.energies[[lowest], None]
            self.corners = np.array([[lowest]])
            return
        # The first fraction follows from the others. One point above all of them keeps the hull
        # full-dimensional where only the elements are left.
        points = np.column_stack([self.fractions[:, 1:], self.energies])
        above = np.append(points[:, :-1].mean(axis=0), self.energies.max() + 1)
        hull = ConvexHull(np.vstack([points, above]))
        looks_down = hull.equations[:, -2] < -NEGLIGIBLE
        normals, offsets = np.split(hull.equations[looks_down], [-1], axis=1)
        slopes = -normals[:, :-1] / normals[:, -1:]
        of_first = -offsets / normals[:, -1:]
        self.potentials = np.hstack([of_first, of_first + slopes])
        self.corners = hull.simplices[looks_down]

    @cached_property
    def vertices(self) -> NDArray[np.int64]:
        """Points on the hull, ascending."""
        return np.unique(self.corners)

    def energies_at(self, fractions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Evaluate the hull: (m, E) -> (m,), eV."""
        return (fractions @ self.potentials.T).max(axis=1)

    def decompose(
        self, fractions: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Find the coexisting points: (m, E) -> their indices (m, E) and amounts (m, E)."""
        rows, of = np.unique(fractions.round(ROUNDED), axis=0, return_inverse=True)
        of = of.reshape(-1)
        # Where more points lie on one plane than span it, the plane is cut into several facets,
        # and only the one around a composition has no negative amounts of it.
        spans = self.fractions[self.corners]  # (F, E, E): a row for each corner
        wide = np.abs(np.linalg.det(spans)) > FLAT
        amounts = np.einsum("me,fec->mfc", rows, np.linalg.inv(spans[wide]))
        around = amounts.min(axis=2).argmax(axis=1)
        return self.corners[wide][around][of], amounts[np.arange(len(rows)), around][of]


class ReferenceEnergy(Document):
    """The energy of one relaxed reference phase."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="name of the phase, unique in its set")
    formula: str = Field(description="formula; its multiple does not matter")
    energy_per_atom: float = Field(description="eV/atom, corrections included")
    level_of_theory: str = Field(min_length=1, description="what computed the energy")
    source: str = Field("", description="where the structure, or a pinned energy, comes from")

    @field_validator("formula")
    @classmethod
    def _formula_is_valid(cls, formula: str) -> str:
        if not Composition(formula):
            raise ValueError("an empty formula")
        return formula

    @property
    def composition(self) -> Composition:
        """Composition of ``formula``."""
        return Composition(self.formula)


class ReferenceSet(Document):
    """Reference energies at one level of theory, and the convex hull that they span.

    A candidate is never added to the set, so that every candidate meets the same hull; one below
    it has a negative energy above hull.

    Energies are taken as they are, with the corrections that
    :mod:`gan_htvs.potentials.corrections` gave them. O2 is pinned to its Materials Project
    value instead of being computed, because interatomic potentials are not made for molecules.

    Raises
    ------
    ValueError
        If the set is empty, mixes levels of theory, repeats a name, or lacks an elemental phase.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    entries: tuple[ReferenceEnergy, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_one_hull(self) -> ReferenceSet:
        levels = sorted({entry.level_of_theory for entry in self.entries})
        if len(levels) > 1:
            raise ValueError(f"energies of different levels of theory: {' and '.join(levels)}")
        names = [entry.name for entry in self.entries]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"more than one energy of {', '.join(repeated)}")
        if missing := missing_elements([e.composition for e in self.entries], self.elements):
            raise ValueError(f"no energy of elemental {', '.join(missing)}")
        return self

    @property
    def level_of_theory(self) -> str:
        """What computed the energies."""
        return self.entries[0].level_of_theory

    def check_level(self, level_of_theory: str) -> None:
        """Make sure that a candidate's energy may be compared with this set.

        Raises
        ------
        UserError
            If it was computed at another level of theory.
        """
        if level_of_theory != self.level_of_theory:
            raise UserError(
                f"an energy of {level_of_theory} cannot be compared with references of "
                f"{self.level_of_theory}; relax both with the same engine."
            )

    @cached_property
    def content_hash(self) -> str:
        """Name of the set: equal for sets whose energies agree to 1e-6 eV/atom."""
        return content_hash(
            [
                (entry.name, entry.formula, round(entry.energy_per_atom, 6), entry.level_of_theory)
                for entry in self.entries
            ]
        )

    @cached_property
    def elements(self) -> tuple[str, ...]:
        """Symbols of all elements, in alphabetical order."""
        return tuple(
            sorted({el.symbol for entry in self.entries for el in entry.composition.elements})
        )

    @cached_property
    def hull(self) -> LowerHull:
        """Convex hull; its points are the entries, its energies in eV/atom."""
        return LowerHull(
            self.fractions([entry.formula for entry in self.entries]),
            [entry.energy_per_atom for entry in self.entries],
        )

    @cached_property
    def elemental_energies(self) -> NDArray[np.float64]:
        """(E,): energy of the stable phase of each element, eV/atom."""
        return self.hull.energies_at(np.eye(len(self.elements)))

    @property
    def phase_diagram(self) -> PhaseDiagram:
        """The same hull as pymatgen's object, for its plotters."""
        return PhaseDiagram(
            [
                PDEntry(e.composition, e.energy_per_atom * e.composition.num_atoms, name=e.name)
                for e in self.entries
            ]
        )

    def fractions(self, compositions: Iterable[CompositionLike]) -> NDArray[np.float64]:
        """Write compositions as atomic fractions, (n, E), in the order of ``elements``.

        Raises
        ------
        UserError
            If the set has no reference for one of the elements.
        """
        rows = []
        for composition in map(Composition, compositions):
            amounts = composition.get_el_amt_dict()
            if foreign := sorted(set(amounts) - set(self.elements)):
                raise UserError(
                    f"{composition.reduced_formula}: there is no reference energy of "
                    f"{', '.join(foreign)}; choose compositions of {'-'.join(self.elements)} or "
                    "relax the reference phases of the larger chemical system."
                )
            rows.append([amounts.get(symbol, 0.0) for symbol in self.elements])
        counts = np.array(rows, dtype=float).reshape(-1, len(self.elements))
        return counts / counts.sum(axis=1, keepdims=True)

    def energies_above_hull(
        self, compositions: Iterable[CompositionLike], energies_per_atom: ArrayLike
    ) -> NDArray[np.float64]:
        """Tell how far candidates lie above the hull, (n,), eV/atom; negative below it.

        ``energies_per_atom`` (n,) must come from the level of theory of this set.

        Raises
        ------
        UserError
            If the set has no reference for one of the elements.
        """
        on_hull = self.hull.energies_at(self.fractions(compositions))
        return np.asarray(energies_per_atom, dtype=float) - on_hull

    def formation_energies_per_atom(
        self, compositions: Iterable[CompositionLike], energies_per_atom: ArrayLike
    ) -> NDArray[np.float64]:
        """Count energies from the elemental phases, (n,), eV/atom; errors as above."""
        elemental = self.fractions(compositions) @ self.elemental_energies
        return np.asarray(energies_per_atom, dtype=float) - elemental

    def decompositions(self, compositions: Iterable[CompositionLike]) -> list[dict[str, float]]:
        """List the stable phases into which each composition decomposes.

        Returns
        -------
        Reduced formula of each phase -> fraction of the atoms that it takes; the sum is 1.
        """
        formulas = [entry.composition.reduced_formula for entry in self.entries]
        return named_shares(formulas, *self.hull.decompose(self.fractions(compositions)))

    def energy_above_hull(self, composition: CompositionLike, energy_per_atom: float) -> float:
        """Tell how far one candidate lies above the hull, eV/atom; errors as above."""
        return float(self.energies_above_hull([composition], [energy_per_atom])[0])

    def hull_energy(self, composition: CompositionLike) -> float:
        """Energy of the hull itself at a composition, eV/atom; errors as above."""
        return -self.energy_above_hull(composition, 0.0)

    def formation_energy_per_atom(
        self, composition: CompositionLike, energy_per_atom: float
    ) -> float:
        """Count one energy from the elemental phases, eV/atom; errors as above."""
        return float(self.formation_energies_per_atom([composition], [energy_per_atom])[0])


def missing_elements(compositions: Iterable[Composition], elements: Iterable[str]) -> list[str]:
    """Return the elements of which no composition is pure, without which there is no hull."""
    pure = {each.elements[0].symbol for each in compositions if each.is_element}
    return sorted(set(elements) - pure)


def named_shares(
    names: Sequence[str], points: NDArray[np.int64], amounts: NDArray[np.float64]
) -> list[dict[str, float]]:
    """Name the points of :meth:`LowerHull.decompose` and leave out those that take no part."""
    return [
        {names[i]: float(w) for i, w in zip(row, weights, strict=True) if w > NEGLIGIBLE}
        for row, weights in zip(points.tolist(), amounts.tolist(), strict=True)
    ]
