"""Aqueous stability: Pourbaix decomposition energies with respect to a fixed reference diagram.

Free energies follow Persson et al., Phys. Rev. B 85, 235438 (2012), and the Materials Project. The
free energy of a solid is its computed formation energy plus the entropy of the gases and liquids
that it is formed from, such as O2. Ions, and solids with H, are shifted with the reference solid of
their element. All elements besides H and O are called metals here, also F, S or N.

The aqueous solution is a reservoir of O and H. At one pH and potential, every species has an energy
per metal atom, and the diagram is the lower convex hull of these energies over the fractions of the
metals: one number for one metal, a hull over a line for two. It is evaluated by
:mod:`gan_htvs.thermodynamics.hull`, once for each pH, for all candidates together.
"""

from __future__ import annotations

from collections import defaultdict
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

from gan_htvs.core.errors import UserError
from gan_htvs.core.pourbaix_stability import PourbaixStability
from gan_htvs.thermodynamics.hull import LowerHull, named_shares
from gan_htvs.thermodynamics.ions import (
    SOLVENT,
    ion_set_of,
    portable_settings,
    unavailable_reason,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from gan_htvs.core.pourbaix_stability import PourbaixSettings
    from gan_htvs.thermodynamics.hull import CompositionLike, ReferenceSet
    from gan_htvs.thermodynamics.ions import IonReference

KJ_PER_MOL_PER_EV = 96.485
ELEMENTAL_ENTROPIES = {
    "Br": 0.235039,
    "Cl": 0.344373,
    "F": 0.313025,
    "Hg": 0.234421,
    "N": 0.295729,
    "O": 0.316731,
}
"""Entropy of gases and liquids times 298 K, eV/atom (Kubaschewski tables, as in pymatgen's
MaterialsProjectAqueousCompatibility). The entropy of other elements, all solids, is neglected."""

OXYGEN_FROM_WATER = 2.46
"""Energy of O2 per atom relative to water, eV, rounded as in pymatgen's filter of solids."""


class PourbaixAnalyzer:
    """Pourbaix stability of candidates with respect to the diagram of a reference set.

    Parameters
    ----------
    reference_set
        Energies of the reference phases. Elemental oxygen is a reservoir, not a solid.
    settings
        Potential, pH grid, ion concentration, filter of solids, and whether solids with H compete.

    Notes
    -----
    Candidates are never added to the diagram; the energies of a candidate below it are negative.
    A candidate is only compared with species of its own metals.
    """

    def __init__(self, reference_set: ReferenceSet, settings: PourbaixSettings) -> None:
        self.reference_set = reference_set
        self.settings = settings
        self.ion_set = ion_set_of(settings)
        self._stored_settings = portable_settings(settings)
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
        self._reasons: dict[frozenset[str], str | None] = {}

    def stabilities(
        self, compositions: Sequence[CompositionLike], formation_energies_per_atom: ArrayLike
    ) -> list[PourbaixStability]:
        """Compute the Pourbaix stability of each candidate.

        Parameters
        ----------
        compositions
            (n,): compositions of the candidates, of any number of formula units.
        formation_energies_per_atom
            (n,): eV/atom, from :meth:`ReferenceSet.formation_energies_per_atom`; not total
            energies.

        Raises
        ------
        UserError
            If a candidate has no element besides H and O, contains H, or contains an element
            without ions or without a reference solid.
        """
        cells = [Composition(composition) for composition in compositions]
        formation = np.asarray(formation_energies_per_atom, dtype=float)
        energies = np.empty((len(cells), len(self._ph)))
        species: list[tuple[str, ...]] = [()] * len(cells)
        groups = defaultdict(list)
        for i, cell in enumerate(cells):
            groups[frozenset(cell.get_el_amt_dict())].append(i)
        for members in groups.values():
            diagram = self._diagram(cells[members[0]])
            counts = diagram.counts([cells[i] for i in members])
            energies[members] = diagram.decomposition_energies(counts, formation[members])
            products = diagram.species(counts, energies[members].argmin(axis=1))
            for i, names in zip(members, products, strict=True):
                species[i] = names
        ph = tuple(self._ph.tolist())
        return [
            # Not validated: all values are computed here.
            PourbaixStability.model_construct(
                minimum=min(row),
                ph_at_minimum=ph[row.index(min(row))],
                decomposes_to=products,
                ph=ph,
                decomposition_energies=tuple(row),
                settings=self._stored_settings,
                ion_set=self.ion_set.version,
                level_of_theory=self.reference_set.level_of_theory,
            )
            for row, products in zip(energies.tolist(), species, strict=True)
        ]

    def stability(
        self, composition: CompositionLike, formation_energy_per_atom: float
    ) -> PourbaixStability:
        """Compute the Pourbaix stability of one candidate; see :meth:`stabilities`."""
        return self.stabilities([composition], [formation_energy_per_atom])[0]

    def unavailable_reason(self, composition: CompositionLike) -> str | None:
        """Return why a composition has no Pourbaix stability; None if it has one."""
        elements = frozenset(Composition(composition).get_el_amt_dict())
        if elements not in self._reasons:
            phases = [entry.formula for entry in self.reference_set.entries]
            self._reasons[elements] = unavailable_reason(elements, phases, self.ion_set)
        if reason := self._reasons[elements]:
            return f"{Composition(composition).reduced_formula}: {reason}."
        return None

    def diagram(self, metals: Mapping[str, float]) -> PourbaixDiagram:
        """Build the pymatgen diagram of the references for amounts of metals, for plots."""
        self._check(Composition(dict(metals)))
        return PourbaixDiagram(
            self._entries(metals),
            comp_dict=dict(metals),
            conc_dict=dict.fromkeys(metals, self.settings.ion_concentration),
            filter_solids=self.settings.filter_solids,
        )

    def _check(self, composition: Composition) -> None:
        if reason := self.unavailable_reason(composition):
            raise UserError(reason)

    def _diagram(self, composition: Composition) -> _Diagram:
        """Return the diagram of the metals of a composition, building it on the first call."""
        self._check(composition)
        metals = tuple(_metals(composition))
        if metals not in self._diagrams:
            entries = self._entries(metals)
            if self.settings.filter_solids:
                entries = _without_unstable_solids(entries)
            self._diagrams[metals] = _Diagram(metals, entries, self._ph, self._potential_vs_she)
        return self._diagrams[metals]

    def _entries(self, metals: Iterable[str]) -> list[PourbaixEntry]:
        """Build the entries of all solids and ions that contain only these metals."""
        metals = set(metals)
        solids = [entry for entry in self._solids if set(_metals(entry.composition)) <= metals]
        shifts = {symbol: self._shift(symbol) for symbol in metals}

        def shifted(reference: IonReference, composition: Composition) -> float:
            content = _metals(composition)
            shift = sum(amount * shifts[symbol] for symbol, amount in content.items())
            return reference.free_energy / KJ_PER_MOL_PER_EV + shift

        if self.settings.hydroxides:
            for reference in self.ion_set.hydroxides:
                composition = Composition(reference.formula)
                if set(_metals(composition)) <= metals:
                    energy = shifted(reference, composition)
                    solids.append(PourbaixEntry(ComputedEntry(composition, energy)))
        ions = []
        for reference in self.ion_set.ions:
            ion = reference.ion
            if set(_metals(ion.composition)) <= metals:
                entry = PourbaixEntry(
                    IonEntry(ion, shifted(reference, ion.composition), name=reference.formula)
                )
                # Concentration of metal atoms, as in pymatgen.
                entry.concentration = self.settings.ion_concentration * entry.normalization_factor
                ions.append(entry)
        return solids + ions

    def _shift(self, symbol: str) -> float:
        """Compute the shift of ions, eV/metal atom: computed minus measured reference solid."""
        solid = self.ion_set.reference_solids[symbol]
        target = Composition(solid.formula)
        computed = [
            entry.entry.energy_per_atom * target.num_atoms
            for entry in self._solids
            if entry.composition.reduced_formula == target.reduced_formula
        ]
        return (min(computed) - solid.free_energy / KJ_PER_MOL_PER_EV) / target[symbol]


@dataclass(frozen=True, eq=False)
class _Diagram:
    """Solids and ions of some metals on the pH grid."""

    metals: tuple[str, ...]
    entries: list[PourbaixEntry]
    ph: NDArray[np.float64]
    potential_vs_she: NDArray[np.float64]

    @cached_property
    def hulls(self) -> list[LowerHull]:
        """Hull at each pH: energies per metal atom over fractions of the metals."""
        fractions = self.counts([entry.composition for entry in self.entries])[:, :-1]
        fractions /= fractions.sum(axis=1, keepdims=True)
        conditions = self.ph, self.potential_vs_she
        energies = [entry.normalized_energy_at_conditions(*conditions) for entry in self.entries]
        return [LowerHull(fractions, column) for column in np.transpose(energies)]

    def counts(self, compositions: Sequence[Composition]) -> NDArray[np.float64]:
        """Count atoms of each metal and, in the last column, of oxygen: (n, n_metals + 1)."""
        symbols = (*self.metals, "O")
        amounts = [composition.get_el_amt_dict() for composition in compositions]
        return np.array([[row.get(symbol, 0.0) for symbol in symbols] for row in amounts])

    def decomposition_energies(
        self, counts: NDArray[np.float64], formation: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Compute decomposition energies over the pH grid, (n, n_ph), eV/atom.

        ``counts`` are those of :meth:`counts`; ``formation`` (n,) are formation energies, eV/atom.
        """
        n_oxygen, n_metals = counts[:, -1], counts[:, :-1].sum(axis=1)
        n_atoms = n_oxygen + n_metals
        entropies = counts @ [ELEMENTAL_ENTROPIES.get(s, 0.0) for s in (*self.metals, "O")]
        entropies[np.count_nonzero(counts, axis=1) == 1] = 0
        # A solid has no charge and, here, no H: PourbaixEntry.energy_at_conditions with
        # npH = nPhi = -2 n_O.
        free = formation * n_atoms + entropies - MU_H2O * n_oxygen
        conditions = PREFAC * self.ph + self.potential_vs_she
        candidate = free[:, None] - 2 * n_oxygen[:, None] * conditions
        fractions = counts[:, :-1] / n_metals[:, None]
        unique, inverse = np.unique(fractions.round(12), axis=0, return_inverse=True)
        stable = np.column_stack([hull.energies_at(unique) for hull in self.hulls])
        return (candidate - n_metals[:, None] * stable[inverse.reshape(-1)]) / n_atoms[:, None]

    def species(
        self, counts: NDArray[np.float64], columns: NDArray[np.int64]
    ) -> list[tuple[str, ...]]:
        """Return the stable species of each composition at one pH of the grid."""
        names = [entry.name for entry in self.entries]
        fractions = counts[:, :-1] / counts[:, :-1].sum(axis=1, keepdims=True)
        species: list[tuple[str, ...]] = [()] * len(counts)
        for column in np.unique(columns):
            rows = np.flatnonzero(columns == column)
            shares = named_shares(names, *self.hulls[column].decompose(fractions[rows]))
            for row, products in zip(rows, shares, strict=True):
                species[row] = tuple(sorted(products))
        return species


def free_energy_per_atom(composition: CompositionLike, formation_energy_per_atom: float) -> float:
    """Convert a formation energy at 0 K to a formation free energy at 298 K, eV/atom."""
    composition = Composition(composition)
    if composition.is_element:
        return formation_energy_per_atom
    return formation_energy_per_atom + sum(
        entropy * composition.get_atomic_fraction(symbol)
        for symbol, entropy in ELEMENTAL_ENTROPIES.items()
    )


def _without_unstable_solids(entries: list[PourbaixEntry]) -> list[PourbaixEntry]:
    """Remove solids above the convex hull of solids, like ``filter_solids`` of pymatgen."""
    solids = [entry for entry in entries if entry.phase_type == "Solid"]
    gases = [ComputedEntry("H", 0), ComputedEntry("O", OXYGEN_FROM_WATER)]
    stable = PhaseDiagram([*solids, *gases]).stable_entries
    return [entry for entry in entries if entry.phase_type != "Solid" or entry in stable]


def _solid(composition: CompositionLike, formation_energy_per_atom: float) -> PourbaixEntry:
    composition = Composition(composition)
    free_energy = free_energy_per_atom(composition, formation_energy_per_atom)
    return PourbaixEntry(ComputedEntry(composition, free_energy * composition.num_atoms))


def _metals(composition: CompositionLike) -> dict[str, float]:
    """Return the amounts of all elements except H and O, in alphabetical order."""
    amounts = Composition(composition).get_el_amt_dict()
    return {symbol: amounts[symbol] for symbol in sorted(set(amounts) - SOLVENT)}
