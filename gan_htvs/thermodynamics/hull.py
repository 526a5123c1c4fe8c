"""Energies above the convex hull, for many candidates at once.

The lower convex hull of energies over atomic fractions is the maximum of the planes of its facets.
The plane of a facet is given by the chemical potentials at which the phases at its corners coexist.
Evaluating the hull takes one matrix product and one maximum.
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
from gan_htvs.thermodynamics.coverage import uncovered_subsystems, within

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

CompositionLike: TypeAlias = str | Composition

NEGLIGIBLE = 1e-8
"""Atomic fractions, and distances from a hull in eV/atom, below this are rounding errors; also the
tolerance for downward facets."""

DECIMALS = 12
"""Decimals to which equal compositions agree."""
MIN_VOLUME = 1e-12
"""Facets of smaller volume are degenerate: no composition lies between their corners."""


class LowerHull:
    """Lower convex hull of energies over compositions.

    Parameters
    ----------
    fractions
        (n, E): composition of each point; rows sum to 1. The pure elements must be included.
    energies
        (n,): eV per atom, or per metal atom if the fractions count metals only.

    Attributes
    ----------
    potentials
        (F, E): chemical potential of each element on each facet, eV.
    corners
        (F, E): indices of the points at the corners of each facet.
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
        # The first fraction follows from the others. A point above all others keeps the hull
        # full-dimensional if there are only elements.
        points = np.column_stack([self.fractions[:, 1:], self.energies])
        above = np.append(points[:, :-1].mean(axis=0), self.energies.max() + 1)
        hull = ConvexHull(np.vstack([points, above]))
        is_lower = hull.equations[:, -2] < -NEGLIGIBLE
        normals, offsets = np.split(hull.equations[is_lower], [-1], axis=1)
        slopes = -normals[:, :-1] / normals[:, -1:]
        first = -offsets / normals[:, -1:]
        self.potentials = np.hstack([first, first + slopes])
        self.corners = hull.simplices[is_lower]

    @cached_property
    def vertices(self) -> NDArray[np.int64]:
        """Indices of the points on the hull, in ascending order."""
        return np.unique(self.corners)

    def energies_at(self, fractions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Evaluate the hull: (m, E) -> (m,), eV."""
        return (fractions @ self.potentials.T).max(axis=1)

    def distances(
        self, fractions: NDArray[np.float64], energies: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Compute how far energies (m,) are above the hull at compositions (m, E): (m,), eV.

        Distances below :data:`NEGLIGIBLE` are zero: a phase on the hull is at its own energy.
        """
        distances = energies - self.energies_at(fractions)
        return np.where(np.abs(distances) < NEGLIGIBLE, 0.0, distances)

    def decompose(
        self, fractions: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the coexisting points: (m, E) -> their indices (m, E) and amounts (m, E)."""
        unique, inverse = np.unique(fractions.round(DECIMALS), axis=0, return_inverse=True)
        inverse = inverse.reshape(-1)
        # A plane with more points than are needed to span it consists of several facets. Only the
        # facet that contains a composition has no negative amounts.
        corners = self.fractions[self.corners]  # (F, E, E): a row for each corner
        valid = np.abs(np.linalg.det(corners)) > MIN_VOLUME
        amounts = np.einsum("me,fec->mfc", unique, np.linalg.inv(corners[valid]))
        facets = amounts.min(axis=2).argmax(axis=1)
        points = self.corners[valid][facets]
        return points[inverse], amounts[np.arange(len(unique)), facets][inverse]


class ReferenceEnergy(Document):
    """Energy of a relaxed reference phase."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="name of the phase, unique in the set")
    formula: str = Field(description="formula of any number of formula units")
    energy_per_atom: float = Field(description="eV/atom, corrections included")
    level_of_theory: str = Field(min_length=1, description="method of the energy")
    source: str = Field("", description="origin of the structure or of a pinned energy")
    merged: tuple[str, ...] = Field(
        (), description="names of other phases that relaxed to the same crystal"
    )

    @field_validator("formula")
    @classmethod
    def _formula_is_valid(cls, formula: str) -> str:
        if not Composition(formula):
            raise ValueError("the formula is empty")
        return formula

    @property
    def composition(self) -> Composition:
        """Composition of ``formula``."""
        return Composition(self.formula)


class ReferenceSet(Document):
    """Reference energies at one level of theory, and their convex hull.

    Candidates are never added to the set, so all of them are compared with the same hull. A
    candidate below it has a negative decomposition energy and an energy above hull of zero.

    The energies include the corrections of :mod:`gan_htvs.potentials.corrections`. The energy of
    O2 is pinned to its Materials Project value, because interatomic potentials are not made for
    molecules.

    Raises
    ------
    ValueError
        If the set is empty, mixes levels of theory, repeats a name, or lacks an elemental phase.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    entries: tuple[ReferenceEnergy, ...] = Field(min_length=1)
    uncovered_subsystems: tuple[str, ...] = Field(
        default_factory=lambda fields: _uncovered(fields.get("entries", ())),
        description="chemical systems of its elements without an entry, except those that are "
        "known to have no compounds; near them candidates may look too stable",
    )

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
        """Method of the energies."""
        return self.entries[0].level_of_theory

    def check_level(self, level_of_theory: str) -> None:
        """Raise an error if an energy of this level of theory is not comparable with the set.

        Raises
        ------
        UserError
            If the level of theory is another one.
        """
        if level_of_theory != self.level_of_theory:
            raise UserError(
                f"an energy of {level_of_theory} cannot be compared with references of "
                f"{self.level_of_theory}; relax both with the same engine."
            )

    @cached_property
    def content_hash(self) -> str:
        """Hash of the set, equal for sets whose energies agree to 1e-6 eV/atom."""
        return content_hash(
            [
                (entry.name, entry.formula, round(entry.energy_per_atom, 6), entry.level_of_theory)
                for entry in self.entries
            ]
        )

    @property
    def n_phases(self) -> int:
        """Number of phases, including those that relaxed to the same crystal as another one."""
        return sum(1 + len(entry.merged) for entry in self.entries)

    @cached_property
    def elements(self) -> tuple[str, ...]:
        """Symbols of all elements, in alphabetical order."""
        return tuple(
            sorted({el.symbol for entry in self.entries for el in entry.composition.elements})
        )

    @cached_property
    def hull(self) -> LowerHull:
        """Convex hull of the entries, in eV/atom."""
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
        """The hull as a pymatgen phase diagram, for plots."""
        return PhaseDiagram(
            [
                PDEntry(e.composition, e.energy_per_atom * e.composition.num_atoms, name=e.name)
                for e in self.entries
            ]
        )

    def within(self, elements: Iterable[str]) -> ReferenceSet:
        """Return the phases of a chemical system: those without any other element.

        Reference solids of aqueous ions may have other elements. They do not change energies above
        the hull of the chemical system, but make the hull larger.
        """
        system = set(elements)
        chosen = [e for e in self.entries if system.issuperset(e.composition.get_el_amt_dict())]
        return ReferenceSet(entries=tuple(chosen)) if len(chosen) < len(self.entries) else self

    def fractions(self, compositions: Iterable[CompositionLike]) -> NDArray[np.float64]:
        """Compute atomic fractions of compositions, (n, E), in the order of ``elements``.

        Raises
        ------
        UserError
            If the set has no reference for one of the elements.
        """
        rows = []
        for composition in map(Composition, compositions):
            amounts = composition.get_el_amt_dict()
            if missing := sorted(set(amounts) - set(self.elements)):
                raise UserError(
                    f"{composition.reduced_formula}: no reference energy of "
                    f"{', '.join(missing)}; choose compositions of {'-'.join(self.elements)} or "
                    "relax the reference phases of the larger chemical system."
                )
            rows.append([amounts.get(symbol, 0.0) for symbol in self.elements])
        counts = np.array(rows, dtype=float).reshape(-1, len(self.elements))
        return counts / counts.sum(axis=1, keepdims=True)

    def decomposition_energies(
        self, compositions: Iterable[CompositionLike], energies_per_atom: ArrayLike
    ) -> NDArray[np.float64]:
        """Compute energies relative to the hull, (n,), eV/atom; negative below it.

        These are the energies of reaction from the stable phases of :meth:`decompositions`.

        ``energies_per_atom`` (n,) must come from the level of theory of this set.

        Raises
        ------
        UserError
            If the set has no reference for one of the elements.
        """
        energies = np.asarray(energies_per_atom, dtype=float)
        return self.hull.distances(self.fractions(compositions), energies)

    def formation_energies_per_atom(
        self, compositions: Iterable[CompositionLike], energies_per_atom: ArrayLike
    ) -> NDArray[np.float64]:
        """Compute formation energies, (n,), eV/atom; errors are those of ``fractions``."""
        elemental = self.fractions(compositions) @ self.elemental_energies
        return np.asarray(energies_per_atom, dtype=float) - elemental

    def decompositions(self, compositions: Iterable[CompositionLike]) -> list[dict[str, float]]:
        """List the stable phases into which each composition decomposes.

        Returns
        -------
        Fraction of the atoms in each phase, by name of the phase; the sum is 1.
        """
        names = [entry.name for entry in self.entries]
        return named_shares(names, *self.hull.decompose(self.fractions(compositions)))

    def uncovered(self, composition: CompositionLike) -> list[str]:
        """Return the uncovered subsystems that have no other elements than a composition."""
        return within(self.uncovered_subsystems, Composition(composition).get_el_amt_dict())

    def decomposition_energy(self, composition: CompositionLike, energy_per_atom: float) -> float:
        """Compute the energy of one candidate relative to the hull, eV/atom; negative below it."""
        return float(self.decomposition_energies([composition], [energy_per_atom])[0])

    def energy_above_hull(self, composition: CompositionLike, energy_per_atom: float) -> float:
        """Compute the energy of one candidate above the hull, eV/atom; zero on it and below it."""
        return max(self.decomposition_energy(composition, energy_per_atom), 0.0)

    def hull_energy(self, composition: CompositionLike) -> float:
        """Compute the energy of the hull at a composition, eV/atom."""
        return float(self.hull.energies_at(self.fractions([composition]))[0])

    def formation_energy_per_atom(
        self, composition: CompositionLike, energy_per_atom: float
    ) -> float:
        """Compute the formation energy of one candidate, eV/atom."""
        return float(self.formation_energies_per_atom([composition], [energy_per_atom])[0])


def _uncovered(entries: Iterable[ReferenceEnergy]) -> tuple[str, ...]:
    """Return the uncovered subsystems of the elements of these entries."""
    covered = {entry.composition.chemical_system for entry in entries}
    elements = {symbol for system in covered for symbol in system.split("-")}
    return tuple(uncovered_subsystems(elements, covered))


def missing_elements(compositions: Iterable[Composition], elements: Iterable[str]) -> list[str]:
    """Return the elements without an elemental phase, which a hull needs."""
    pure = {c.elements[0].symbol for c in compositions if c.is_element}
    return sorted(set(elements) - pure)


def named_shares(
    names: Sequence[str], points: NDArray[np.int64], amounts: NDArray[np.float64]
) -> list[dict[str, float]]:
    """Return the amounts of :meth:`LowerHull.decompose` by name, without negligible ones."""
    kept = np.where(amounts > NEGLIGIBLE, amounts, 0.0)
    kept /= kept.sum(axis=1, keepdims=True)
    return [
        {names[i]: share for i, share in zip(row, shares, strict=True) if share}
        for row, shares in zip(points.tolist(), kept.tolist(), strict=True)
    ]
