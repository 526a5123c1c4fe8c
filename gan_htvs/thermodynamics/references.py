"""Reference phases of a chemical system, as structures to relax."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from monty.json import MSONable
from pymatgen.core import Element, Lattice, Structure

from gan_htvs.core.errors import UserError
from gan_htvs.core.text import join_names
from gan_htvs.structures.symmetry import primitive_cell, primitive_crystal, reduction_note
from gan_htvs.structures.validity import unphysical_change
from gan_htvs.thermodynamics.coverage import uncovered_subsystems
from gan_htvs.thermodynamics.hull import ReferenceEnergy, ReferenceSet
from gan_htvs.thermodynamics.merging import merged_phases

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from gan_htvs.core.candidate import RelaxedStructure

REFERENCE_PHASES = Path(__file__).with_name("reference_phases.yaml")
ELEMENTAL_GASES = Path(__file__).with_name("elemental_gases.yaml")


@dataclass(frozen=True)
class ReferencePhase(MSONable):
    """Reference phase.

    Attributes
    ----------
    name
        Formula and common name of the polymorph; unique.
    structure
        Primitive cell with the published lattice, A; the start of a relaxation.
    source
        Origin of lattice and coordinates.
    pinned_energy_per_atom
        Energy at every level of theory, eV/atom, as for O2; None: the phase is relaxed.
    published_energy_per_atom
        Energy in the source, eV/atom, corrections included.
    """

    name: str
    structure: Structure
    source: str
    pinned_energy_per_atom: float | None = None
    published_energy_per_atom: float | None = None

    @property
    def formula(self) -> str:
        """Reduced formula."""
        return self.structure.composition.reduced_formula

    @property
    def energy_per_atom(self) -> float | None:
        """Pinned or published energy, eV/atom; None: to be computed."""
        if self.pinned_energy_per_atom is None:
            return self.published_energy_per_atom
        return self.pinned_energy_per_atom


def primitive_phase(
    name: str, structure: Structure, source: str, published_energy_per_atom: float | None = None
) -> ReferencePhase:
    """Make a reference phase from the primitive cell of a structure without site properties.

    If the reduction moves atoms by more than rounding, the source contains the displacement.
    """
    cell = primitive_cell(structure)
    return ReferencePhase(
        name=name,
        structure=cell,
        source="; ".join(filter(None, (source, reduction_note(structure, cell)))),
        published_energy_per_atom=published_energy_per_atom,
    )


def safe_label(label: str) -> str:
    """Return a label of a source as part of the name of a phase.

    Names are keys of MongoDB documents, in which dots and dollar signs have a meaning.
    """
    return label.translate(str.maketrans(".$", "__"))


def reference_phases(elements: Iterable[str]) -> list[ReferencePhase]:
    """Return the shipped reference phases of a chemical system and its subsystems.

    Raises
    ------
    UserError
        If an element has no phase, or if the file does not cover one of the subsystems:
        candidates look too stable if competing phases are missing.
    """
    if gap := missing_from_package(elements):
        raise UserError(
            f"references: {gap}; give phases of your own or of a database (references.source)."
        )
    symbols = {Element(symbol).symbol for symbol in elements}
    return [p for p in _shipped_phases() if set(p.structure.symbol_set) <= symbols]


def missing_from_package(elements: Iterable[str]) -> str | None:
    """Return a clause about shipped phases that a chemical system lacks, or None."""
    symbols = {Element(symbol).symbol for symbol in elements}
    systems = [set(phase.structure.symbol_set) for phase in _shipped_phases()]
    known = set().union(*(system for system in systems if len(system) == 1))
    if missing := sorted(symbols - known):
        return (
            f"no reference phases are known for {', '.join(missing)}, since the package only has "
            f"phases of {', '.join(sorted(known))}"
        )
    if missing := uncovered_subsystems(symbols, _shipped()["covered"]):
        return (
            f"no reference phases of {join_names(missing)} are shipped, without which candidates "
            "look too stable"
        )
    return None


def uncovered_by(phases: Iterable[ReferencePhase], elements: Iterable[str]) -> list[str]:
    """Return the subsystems of these elements that may have compounds, but have no phase."""
    return uncovered_subsystems(elements, {phase.structure.chemical_system for phase in phases})


def reference_set(
    phases: Collection[ReferencePhase],
    relaxed: Mapping[str, RelaxedStructure | str],
    level_of_theory: str,
) -> ReferenceSet:
    """Collect the energies of reference phases; those that relaxed to one crystal become one.

    Parameters
    ----------
    phases
        Reference phases, pinned ones included.
    relaxed
        Result of each phase that is not pinned, by name, or the reason for its failure.
    level_of_theory
        Label of the energies.

    Raises
    ------
    UserError
        If a phase has no energy: candidates would look too stable without it.
    """
    energies = {phase.name: _energy(phase, relaxed, level_of_theory) for phase in phases}
    merged = merged_phases(
        {name: result for name, result in relaxed.items() if not isinstance(result, str)}
    )
    entries = [
        ReferenceEnergy(
            name=phase.name,
            formula=phase.formula,
            energy_per_atom=energies[phase.name],
            level_of_theory=level_of_theory,
            source=phase.source,
            merged=tuple(name for name, kept in merged.items() if kept == phase.name),
        )
        for phase in phases
        if phase.name not in merged
    ]
    return ReferenceSet(entries=tuple(entries))


def _energy(
    phase: ReferencePhase, relaxed: Mapping[str, RelaxedStructure | str], level_of_theory: str
) -> float:
    """Return the pinned or computed energy of a phase, eV/atom, or raise a UserError."""
    if phase.pinned_energy_per_atom is not None:
        return phase.pinned_energy_per_atom
    outcome, hint = relaxed[phase.name], "use another engines.energy.name"
    if isinstance(outcome, str):
        problem: str | None = outcome
    elif (problem := unphysical_change(phase.structure, outcome.structure)) is None:
        if not math.isfinite(outcome.energy_per_atom):
            problem = f"its energy is {outcome.energy_per_atom} eV/atom"
        elif outcome.converged:
            return outcome.energy_per_atom
        else:
            problem = f"relaxation not converged after {outcome.n_steps} steps"
            hint = f"raise engines.energy.max_steps above {outcome.n_steps}"
    raise UserError(
        f"reference phase {phase.name} has no energy of {level_of_theory}: {problem}; {hint}."
    )


@cache
def elemental_gases() -> Mapping[str, ReferencePhase]:
    """Return the phases of the elements that are gases, by symbol; their energies are pinned.

    Interatomic potentials are not made for molecules.
    """
    documents = yaml.safe_load(ELEMENTAL_GASES.read_text(encoding="utf-8"))
    phases = [*map(_phase, documents), *(p for p in _shipped_phases() if p.name == "O2")]
    return {phase.structure.elements[0].symbol: phase for phase in phases}


@cache
def _shipped() -> dict[str, Any]:
    return yaml.safe_load(REFERENCE_PHASES.read_text(encoding="utf-8"))


@cache
def _shipped_phases() -> list[ReferencePhase]:
    return [_phase(document) for document in _shipped()["phases"]]


def _phase(document: Mapping[str, Any]) -> ReferencePhase:
    return ReferencePhase(
        name=document["name"],
        structure=primitive_crystal(
            document["space_group"],
            Lattice.from_parameters(*document["lattice"]),
            document["sites"],
        ),
        source=document["source"],
        pinned_energy_per_atom=document.get("pinned_energy_per_atom"),
    )
