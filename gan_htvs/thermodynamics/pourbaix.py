"""Stability in water: Pourbaix decomposition energies against a fixed reference diagram.

Free energies follow Persson et al., Phys. Rev. B 85, 235438 (2012), and the Materials Project: a
solid has the formation energy of its calculation, and only the entropy of the O2 gas that it was
made from is added to it; ions, and solids with H, are moved together with the solid of their
element.

In water O and H are open, so at one pH and potential every species has an energy per metal atom,
and a diagram is the lower convex hull of these over the shares of the metals: one number for one
metal, a hull over a line for two. It is evaluated as :mod:`gan_htvs.thermodynamics.hull` does,
once for each pH, for all candidates together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.analysis.phase_diagram import PhaseDiagram
from pymatgen.analysis.pourbaix_diagram import (
    MU_H2O,
    PREFAC,
    IonEntry,
    PourbaixDiagram,
    PourbaixEntry,
)
from pymatgen.core import Composition
from pymatgen.core.entries import ComputedEntry
from pymatgen.core.ion import Ion

from gan_htvs.core.errors import UserError
from gan_htvs.core.pourbaix_stability import PourbaixStability
from gan_htvs.thermodynamics.hull import LowerHull, named_shares
from gan_htvs.thermodynamics.ions import AQUEOUS_IONS, ion_set_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from gan_htvs.core.pourbaix_stability import PourbaixSettings
    from gan_htvs.thermodynamics.hull import CompositionLike, ReferenceSet
    from gan_htvs.thermodynamics.ions import IonReference, IonSet

KJ_PER_MOL_PER_EV = 96.485
OXYGEN_ENTROPY = 0.316731
"""Entropy of O2 gas times 298 K, eV per O atom (Kubaschewski tables, as in pymatgen's
MaterialsProjectAqueousCompatibility)."""

OXYGEN_FROM_WATER = 2.46
"""Energy of O2 per atom where O counts from water, as pymatgen rounds it to filter solids, eV."""

SOLVENT = frozenset({"H", "O"})


class PourbaixAnalyzer:
    """Pourbaix stability of candidates against the diagram of a reference set.

    Parameters
    ----------
    reference_set
        Energies of the reference phases. Elemental oxygen takes part as the open species, not as a
        solid.
    settings
        Potential, pH grid, ion concentration, solid filter, and whether solids with H take part.
    ion_set
        Free energies of ions; the table of this package by default.

    Notes
    -----
    The candidate is never added to the diagram, so one below it has negative values. Candidates
    are compared with the species of their own metals alone.
    """

    def __init__(
        self,
        reference_set: ReferenceSet,
        settings: PourbaixSettings,
        *,
        ion_set: IonSet | None = None,
    ) -> None:
        self.reference_set = reference_set
        self.settings = settings
        self.ion_set = ion_set or ion_set_of(settings)
        self._ph = np.linspace(settings.ph_min, settings.ph_max, settings.ph_points)
        self._potential_vs_she = settings.potential_vs_rhe - PREFAC * self._ph
        formulas = [entry.formula for entry in reference_set.entries]
        formation = reference_set.formation_energies_per_atom(
            formulas, [entry.energy_per_atom for entry in reference_set.entries]
        )
        self._solids = [
            _solid(formula, energy)
            for formula, energy in zip(formulas, formation.tolist(), strict=True)
            if _metals(formula) and "H" not in Composition(formula)
        ]
        self._diagrams: dict[tuple[str, ...], _Diagram] = {}

    def decomposition_energies(
        self, compositions: Sequence[CompositionLike], formation_energies_per_atom: ArrayLike
    ) -> NDArray[np.float64]:
        """Compute the decomposition energies of candidates over the pH grid.

        Parameters
        ----------
        compositions
            (n,) of the candidates; their multiples do not matter.
        formation_energies_per_atom
            (n,) eV/atom, from :meth:`ReferenceSet.formation_energies_per_atom`; never total
            energies.

        Returns
        -------
        (n, n_ph), eV/atom; negative below the diagram.

        Raises
        ------
        UserError
            If a candidate holds no element besides H and O, holds H, or holds an element
            without ions or without a reference solid.
        """
        compositions = [Composition(c) for c in compositions]
        formation = np.asarray(formation_energies_per_atom, dtype=float)
        energies = np.empty((len(compositions), len(self._ph)))
        for diagram, members in self._by_metals(compositions):
            counts = diagram.counts([compositions[i] for i in members])
            n_oxygen, n_metals = counts[:, -1], counts[:, :-1].sum(axis=1)
            n_atoms = n_oxygen + n_metals
            # A solid has no charge and, here, no H: PourbaixEntry.energy_at_conditions with
            # npH = nPhi = -2 n_O.
            free = formation[members] * n_atoms + (OXYGEN_ENTROPY - MU_H2O) * n_oxygen
            conditions = PREFAC * self._ph + self._potential_vs_she
            own = free[:, None] - 2 * n_oxygen[:, None] * conditions
            shares = counts[:, :-1] / n_metals[:, None]
            ratios, of = np.unique(shares.round(12), axis=0, return_inverse=True)
            others = diagram.energies_at(ratios)[of.reshape(-1)]
            energies[members] = (own - n_metals[:, None] * others) / n_atoms[:, None]
        return energies

    def stabilities(
        self, compositions: Sequence[CompositionLike], formation_energies_per_atom: ArrayLike
    ) -> list[PourbaixStability]:
        """Describe what :meth:`decomposition_energies` gives, candidate by candidate."""
        compositions = [Composition(c) for c in compositions]
        energies = self.decomposition_energies(compositions, formation_energies_per_atom)
        best = energies.argmin(axis=1)
        species = self._species(compositions, best)
        ph = tuple(self._ph.tolist())
        return [
            # Not validated field by field: all of it comes from here.
            PourbaixStability.model_construct(
                minimum=row[k],
                ph_at_minimum=ph[k],
                decomposes_to=products,
                ph=ph,
                decomposition_energies=tuple(row),
                settings=self.settings,
                ion_set=self.ion_set.version,
                level_of_theory=self.reference_set.level_of_theory,
            )
            for row, k, products in zip(energies.tolist(), best.tolist(), species, strict=True)
        ]

    def stability(
        self, composition: CompositionLike, formation_energy_per_atom: float
    ) -> PourbaixStability:
        """Describe one candidate; arguments and errors as above."""
        return self.stabilities([composition], [formation_energy_per_atom])[0]

    def unavailable_reason(self, composition: CompositionLike) -> str | None:
        """Say why a composition has no Pourbaix stability here; None if it has one."""
        try:
            self._diagram(Composition(composition))
        except UserError as error:
            return str(error)
        return None

    def diagram(self, metals: Mapping[str, float]) -> PourbaixDiagram:
        """Build pymatgen's reference diagram for amounts of metals, to draw it."""
        return PourbaixDiagram(
            self._entries(metals),
            comp_dict=dict(metals),
            conc_dict=dict.fromkeys(metals, self.settings.ion_concentration),
            filter_solids=self.settings.filter_solids,
        )

    def _species(
        self, compositions: list[Composition], columns: NDArray[np.int64]
    ) -> list[tuple[str, ...]]:
        """Name the stable species of each composition at one pH of the grid."""
        species: list[tuple[str, ...]] = [()] * len(compositions)
        for diagram, members in self._by_metals(compositions):
            counts = diagram.counts([compositions[i] for i in members])[:, :-1]
            shares = counts / counts.sum(axis=1, keepdims=True)
            for column in np.unique(columns[members]):
                here = np.flatnonzero(columns[members] == column)
                found = named_shares(diagram.names, *diagram.hulls[column].decompose(shares[here]))
                for i, products in zip(here, found, strict=True):
                    species[members[i]] = tuple(sorted(products))
        return species

    def _by_metals(
        self, compositions: list[Composition]
    ) -> list[tuple[_Diagram, NDArray[np.int64]]]:
        """Part candidates by the metals that they hold."""
        groups: dict[tuple[str, ...], list[int]] = {}
        for i, composition in enumerate(compositions):
            groups.setdefault(tuple(sorted(composition.get_el_amt_dict())), []).append(i)
        return [
            (self._diagram(compositions[members[0]]), np.array(members))
            for members in groups.values()
        ]

    def _diagram(self, composition: Composition) -> _Diagram:
        """Find or make the diagram of the metals of a composition."""
        metals = tuple(_metals(composition))
        self._check(composition, metals)
        if metals not in self._diagrams:
            entries = self._entries(metals)
            if self.settings.filter_solids:
                entries = _without_unstable_solids(entries)
            self._diagrams[metals] = _Diagram(metals, entries, self._ph, self._potential_vs_she)
        return self._diagrams[metals]

    def _entries(self, metals: Iterable[str]) -> list[PourbaixEntry]:
        """Solids and ions of these metals and no other."""
        metals = set(metals)
        solids = [entry for entry in self._solids if set(_metals(entry.composition)) <= metals]
        shifts = {symbol: self._shift(symbol) for symbol in metals}

        def moved(reference: IonReference, composition: Composition) -> float:
            content = _metals(composition)
            shift = sum(amount * shifts[symbol] for symbol, amount in content.items())
            return reference.free_energy / KJ_PER_MOL_PER_EV + shift

        if self.settings.hydroxides:
            for reference in self.ion_set.hydroxides:
                composition = Composition(reference.formula)
                if set(_metals(composition)) <= metals:
                    energy = moved(reference, composition)
                    solids.append(PourbaixEntry(ComputedEntry(composition, energy)))
        ions = []
        for reference in self.ion_set.ions:
            ion = Ion.from_formula(reference.formula)
            if set(_metals(ion.composition)) <= metals:
                entry = PourbaixEntry(
                    IonEntry(ion, moved(reference, ion.composition), name=reference.formula)
                )
                # Of the metal, as in pymatgen's diagrams: an ion of two atoms has half of it.
                entry.concentration = self.settings.ion_concentration * entry.normalization_factor
                ions.append(entry)
        return solids + ions

    def _shift(self, symbol: str) -> float:
        """Subtract the measured from the computed free energy of the solid, eV per atom."""
        solid = self.ion_set.reference_solids[symbol]
        target = Composition(solid.formula)
        computed = [
            entry.entry.energy_per_atom * target.num_atoms
            for entry in self._solids
            if entry.composition.reduced_formula == target.reduced_formula
        ]
        if not computed:
            raise UserError(
                f"pourbaix: the reference set lacks {solid.formula}, to which the ions of "
                f"{symbol} are tied; relax it with the other reference phases."
            )
        return (min(computed) - solid.free_energy / KJ_PER_MOL_PER_EV) / target[symbol]

    def _check(self, composition: Composition, metals: tuple[str, ...]) -> None:
        formula = composition.reduced_formula
        if not metals:
            raise UserError(
                f"{formula}: Pourbaix stability is not defined without an element besides H and "
                "O; leave this composition out."
            )
        if "H" in composition:
            raise UserError(
                f"{formula}: Pourbaix stability of solids with H is not implemented; leave H out "
                "of the chemical system."
            )
        if unknown := sorted(set(metals) - set(self.ion_set.reference_solids)):
            raise UserError(
                f"{formula}: no aqueous ions of {', '.join(unknown)} are known; add them and "
                f"their reference solid to {AQUEOUS_IONS}."
            )


@dataclass(frozen=True, eq=False)
class _Diagram:
    """Solids and ions of some metals, along the pH grid."""

    metals: tuple[str, ...]
    entries: list[PourbaixEntry]
    ph: NDArray[np.float64]
    potential_vs_she: NDArray[np.float64]

    @cached_property
    def names(self) -> list[str]:
        return [entry.name for entry in self.entries]

    @cached_property
    def hulls(self) -> list[LowerHull]:
        """The hull at each pH: energies per metal atom over the shares of the metals."""
        shares = self.counts([entry.composition for entry in self.entries])[:, :-1]
        shares /= shares.sum(axis=1, keepdims=True)
        energies = np.array(
            [
                e.normalized_energy_at_conditions(self.ph, self.potential_vs_she)
                for e in self.entries
            ]
        )
        return [LowerHull(shares, column) for column in energies.T]

    def counts(self, compositions: Sequence[Composition]) -> NDArray[np.float64]:
        """Atoms of each metal and, last, of oxygen: (n, n_metals + 1)."""
        symbols = (*self.metals, "O")
        amounts = [composition.get_el_amt_dict() for composition in compositions]
        return np.array([[each.get(symbol, 0.0) for symbol in symbols] for each in amounts])

    def energies_at(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Energy of the stable species, eV per metal atom: (n, n_metals) -> (n, n_ph)."""
        return np.column_stack([hull.energies_at(shares) for hull in self.hulls])


def free_energy_per_atom(composition: CompositionLike, formation_energy_per_atom: float) -> float:
    """Turn a formation energy at 0 K into a formation free energy at 298 K, eV/atom."""
    oxygen_fraction = Composition(composition).get_atomic_fraction("O")
    return formation_energy_per_atom + OXYGEN_ENTROPY * oxygen_fraction


def _without_unstable_solids(entries: list[PourbaixEntry]) -> list[PourbaixEntry]:
    """Drop solids above the convex hull of solids, as pymatgen's ``filter_solids`` does."""
    solids = [entry for entry in entries if entry.phase_type == "Solid"]
    gases = [ComputedEntry("H", 0), ComputedEntry("O", OXYGEN_FROM_WATER)]
    stable = PhaseDiagram([*solids, *gases]).stable_entries
    return [entry for entry in entries if entry.phase_type != "Solid" or entry in stable]


def _solid(composition: CompositionLike, formation_energy_per_atom: float) -> PourbaixEntry:
    composition = Composition(composition)
    free_energy = free_energy_per_atom(composition, formation_energy_per_atom)
    return PourbaixEntry(ComputedEntry(composition, free_energy * composition.num_atoms))


def _metals(composition: CompositionLike) -> dict[str, float]:
    """Amounts of the elements that are not open species, in alphabetical order."""
    amounts = Composition(composition).get_el_amt_dict()
    return {symbol: amounts[symbol] for symbol in sorted(set(amounts) - SOLVENT)}
