"""Stability in water: Pourbaix decomposition energies against a fixed reference diagram.

Free energies follow Persson et al., Phys. Rev. B 85, 235438 (2012), and the Materials Project: a
solid has the formation energy of its calculation, and only the entropy of the O2 gas that it was
made from is added to it; ions are moved together with the solid of their element.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field
from pymatgen.analysis.pourbaix_diagram import PREFAC, IonEntry, PourbaixDiagram, PourbaixEntry
from pymatgen.core import Composition
from pymatgen.core.entries import ComputedEntry
from pymatgen.core.ion import Ion

from gan_htvs.campaign import PourbaixSettings
from gan_htvs.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from gan_htvs.thermodynamics.hull import CompositionLike, ReferenceSet

AQUEOUS_IONS = Path(__file__).with_name("aqueous_ions.yaml")

KJ_PER_MOL_PER_EV = 96.485
OXYGEN_ENTROPY = 0.316731
"""Entropy of O2 gas times 298 K, eV per O atom (Kubaschewski tables, as in pymatgen's
MaterialsProjectAqueousCompatibility)."""

POTENTIAL_LIMIT = 4.0
"""Largest potential vs SHE, V, at which pymatgen's diagrams keep every stable domain."""

SOLVENT = frozenset({"H", "O"})


class IonReference(BaseModel):
    """An experimental free energy of formation at 298.15 K."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    formula: str = Field(description="formula of the ion with its charge, or of the solid")
    free_energy: float = Field(description="free energy of formation, kJ/mol")
    source: str


class IonSet(BaseModel):
    """A versioned table of aqueous ions and of the solids to which they are tied."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    reference_solids: dict[str, IonReference] = Field(description="element -> solid")
    ions: tuple[IonReference, ...]
    hydroxides: tuple[IonReference, ...] = ()


class PourbaixStability(BaseModel):
    """Decomposition energy of one candidate in water, with everything it depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    minimum: float = Field(description="smallest decomposition energy on the pH grid, eV/atom")
    ph_at_minimum: float = Field(description="pH of the minimum")
    decomposes_to: tuple[str, ...] = Field(
        description="stable species at the minimum, water, protons and electrons left out"
    )
    ph: tuple[float, ...] = Field(description="pH grid")
    decomposition_energies: tuple[float, ...] = Field(
        description="decomposition energy at each pH, eV/atom; negative below the diagram"
    )
    settings: PourbaixSettings = Field(description="potential, grid, concentration, solid filter")
    hydroxides: bool = Field(description="whether solids with H were part of the diagram")
    ion_set: str = Field(description="version of the table of ions")
    level_of_theory: str = Field(description="what computed the solids")


@cache
def aqueous_ions() -> IonSet:
    """Read the table of aqueous ions."""
    return IonSet.model_validate(yaml.safe_load(AQUEOUS_IONS.read_text(encoding="utf-8")))


def free_energy_per_atom(composition: CompositionLike, formation_energy_per_atom: float) -> float:
    """Turn a formation energy at 0 K into a formation free energy at 298 K, eV/atom."""
    oxygen_fraction = Composition(composition).get_atomic_fraction("O")
    return formation_energy_per_atom + OXYGEN_ENTROPY * oxygen_fraction


@dataclass(frozen=True)
class _Basin:
    """The lower envelope of a diagram along the pH grid.

    ``energies`` are in eV per metal atom, ``species`` the stable ones; one of each per pH.
    """

    energies: NDArray[np.float64]
    species: list[tuple[str, ...]]


class PourbaixAnalyzer:
    """Pourbaix stability of candidates against the diagram of a reference set.

    Parameters
    ----------
    reference_set
        Energies of the known phases. Elemental oxygen takes part as the open species, not as a
        solid; phases with H are left out, as the Materials Project does.
    settings
        Potential, pH grid, ion concentration and solid filter.
    ion_set
        Free energies of ions; the table of this package by default.

    Notes
    -----
    The candidate is never added to the diagram, so one below it has negative values. A diagram
    is evaluated once per ratio of the metals, from the entries of just those metals: pymatgen would
    otherwise decompose a candidate into products that hold elements it does not have.
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
        self.ion_set = ion_set or aqueous_ions()
        self._ph = np.linspace(settings.ph_min, settings.ph_max, settings.ph_points)
        self._potential_vs_she = settings.potential_vs_rhe - PREFAC * self._ph
        if (largest := np.abs(self._potential_vs_she).max()) > POTENTIAL_LIMIT:
            raise UserError(
                f"pourbaix.potential_vs_rhe: {settings.potential_vs_rhe:g} V is {largest:.2f} V "
                f"vs SHE somewhere on the pH grid; keep it within {POTENTIAL_LIMIT:g} V."
            )
        self._solids = [
            _solid(
                entry.formula,
                reference_set.formation_energy_per_atom(entry.formula, entry.energy_per_atom),
            )
            for entry in reference_set.entries
            if _metals(entry.formula) and "H" not in entry.composition
        ]
        self._basins: dict[tuple[tuple[str, float], ...], _Basin] = {}

    def stability(
        self, composition: CompositionLike, formation_energy_per_atom: float
    ) -> PourbaixStability:
        """Compute the decomposition energy of a candidate over the pH grid.

        Parameters
        ----------
        composition
            Composition of the candidate; its multiple does not matter.
        formation_energy_per_atom
            eV/atom, from :meth:`ReferenceSet.formation_energy_per_atom`; never a total energy.

        Raises
        ------
        UserError
            If the candidate holds no element besides H and O, holds H, or holds an element
            without ions or without a reference solid.
        """
        composition = Composition(composition)
        basin = self._basin(composition)
        candidate = _solid(composition, formation_energy_per_atom)
        above = (
            candidate.normalized_energy_at_conditions(self._ph, self._potential_vs_she)
            - basin.energies
        )
        energies = above / (candidate.normalization_factor * candidate.num_atoms)
        best = int(np.argmin(energies))
        return PourbaixStability(
            minimum=float(energies[best]),
            ph_at_minimum=float(self._ph[best]),
            decomposes_to=basin.species[best],
            ph=tuple(self._ph.tolist()),
            decomposition_energies=tuple(energies.tolist()),
            settings=self.settings,
            hydroxides=False,
            ion_set=self.ion_set.version,
            level_of_theory=self.reference_set.level_of_theory,
        )

    def _basin(self, composition: Composition) -> _Basin:
        """Find or compute the diagram along the pH grid for the metals of ``composition``."""
        metals = _metals(composition)
        self._check(composition, metals)
        total = sum(metals.values())
        ratio = {symbol: amount / total for symbol, amount in metals.items()}
        key = tuple((symbol, round(fraction, 9)) for symbol, fraction in ratio.items())
        if key not in self._basins:
            diagram = self.diagram(ratio)
            energies = np.array(
                [
                    entry.normalized_energy_at_conditions(self._ph, self._potential_vs_she)
                    for entry in diagram.stable_entries
                ]
            )
            names = [tuple(sorted(e.name.split(" + "))) for e in diagram.stable_entries]
            self._basins[key] = _Basin(
                energies=energies.min(axis=0),
                species=[names[i] for i in energies.argmin(axis=0)],
            )
        return self._basins[key]

    def diagram(self, metals: Mapping[str, float]) -> PourbaixDiagram:
        """Build the reference diagram for amounts of metals, from their entries alone."""
        return PourbaixDiagram(
            self._entries(metals),
            comp_dict=dict(metals),
            conc_dict=dict.fromkeys(metals, self.settings.ion_concentration),
            filter_solids=self.settings.filter_solids,
        )

    def _entries(self, metals: Iterable[str]) -> list[PourbaixEntry]:
        """Solids and ions of these metals and no other."""
        metals = set(metals)
        solids = [entry for entry in self._solids if set(_metals(entry.composition)) <= metals]
        shifts = {symbol: self._ion_shift(symbol) for symbol in metals}
        ions = []
        for reference in self.ion_set.ions:
            ion = Ion.from_formula(reference.formula)
            content = _metals(ion.composition)
            if set(content) <= metals:
                energy = reference.free_energy / KJ_PER_MOL_PER_EV
                energy += sum(amount * shifts[symbol] for symbol, amount in content.items())
                ions.append(
                    PourbaixEntry(
                        IonEntry(ion, energy, name=reference.formula),
                        concentration=self.settings.ion_concentration,
                    )
                )
        return solids + ions

    def _ion_shift(self, symbol: str) -> float:
        """Shift of an ion per atom of ``symbol``: computed minus measured reference solid, eV."""
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

    def _check(self, composition: Composition, metals: dict[str, float]) -> None:
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


def _solid(composition: CompositionLike, formation_energy_per_atom: float) -> PourbaixEntry:
    composition = Composition(composition)
    free_energy = free_energy_per_atom(composition, formation_energy_per_atom)
    return PourbaixEntry(ComputedEntry(composition, free_energy * composition.num_atoms))


def _metals(composition: CompositionLike) -> dict[str, float]:
    """Amounts of the elements that are not open species, in alphabetical order."""
    amounts = Composition(composition).get_el_amt_dict()
    return {symbol: amounts[symbol] for symbol in sorted(set(amounts) - SOLVENT)}
