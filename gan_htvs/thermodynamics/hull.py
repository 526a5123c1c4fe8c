"""Energies above the convex hull of a fixed set of reference phases."""

from __future__ import annotations

from functools import cached_property
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from gan_htvs.errors import UserError

CompositionLike: TypeAlias = str | Composition


class ReferenceEnergy(BaseModel):
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


class ReferenceSet(BaseModel):
    """Reference energies at one level of theory, and the convex hull that they span.

    A candidate is never added to the set, so that every candidate meets the same hull; one below
    it has a negative energy above hull.

    Energies are taken as they are. Those of CHGNet already contain the MP2020 corrections of the
    data that it was trained on, so none is applied here; raw energies (VASP, SevenNet) must be
    corrected before they come here. O2 is pinned to its Materials Project value instead of being
    computed, because interatomic potentials are not made for molecules.

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
        pure = {e.composition.elements[0].symbol for e in self.entries if e.composition.is_element}
        if missing := sorted(set(self.elements) - pure):
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

    @property
    def elements(self) -> tuple[str, ...]:
        """Symbols of all elements, in alphabetical order."""
        return tuple(
            sorted({el.symbol for entry in self.entries for el in entry.composition.elements})
        )

    @cached_property
    def phase_diagram(self) -> PhaseDiagram:
        """Convex hull of the reference phases."""
        return PhaseDiagram([_entry(e.formula, e.energy_per_atom, e.name) for e in self.entries])

    @property
    def stable_names(self) -> tuple[str, ...]:
        """Names of the phases on the hull, in alphabetical order."""
        return tuple(sorted(entry.name for entry in self.phase_diagram.stable_entries))

    def energy_above_hull(self, composition: CompositionLike, energy_per_atom: float) -> float:
        """Tell how far a candidate lies above the hull, eV/atom; negative below it.

        ``energy_per_atom`` must come from the level of theory of this set.

        Raises
        ------
        UserError
            If the set has no reference for one of the elements.
        """
        entry = self._candidate(composition, energy_per_atom)
        return float(self.phase_diagram.get_e_above_hull(entry, allow_negative=True))

    def formation_energy_per_atom(
        self, composition: CompositionLike, energy_per_atom: float
    ) -> float:
        """Count the energy from the elemental phases, eV/atom; errors as above."""
        entry = self._candidate(composition, energy_per_atom)
        return float(self.phase_diagram.get_form_energy_per_atom(entry))

    def decomposition(self, composition: CompositionLike) -> dict[str, float]:
        """List the stable phases into which a composition decomposes.

        Returns
        -------
        Reduced formula of each phase -> fraction of the atoms that it takes; the sum is 1.
        """
        entry = self._candidate(composition, 0.0)
        products = self.phase_diagram.get_decomposition(entry.composition)
        return {
            product.composition.reduced_formula: float(fraction)
            for product, fraction in products.items()
        }

    def _candidate(self, composition: CompositionLike, energy_per_atom: float) -> PDEntry:
        entry = _entry(composition, energy_per_atom)
        symbols = {element.symbol for element in entry.composition.elements}
        if foreign := sorted(symbols - set(self.elements)):
            raise UserError(
                f"{entry.composition.reduced_formula}: there is no reference energy of "
                f"{', '.join(foreign)}; choose compositions of {'-'.join(self.elements)} or relax "
                "the reference phases of the larger chemical system."
            )
        return entry


def _entry(
    composition: CompositionLike, energy_per_atom: float, name: str | None = None
) -> PDEntry:
    composition = Composition(composition)
    return PDEntry(composition, energy_per_atom * composition.num_atoms, name=name)
