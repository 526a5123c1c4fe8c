"""The reference phases of a chemical system, as structures to relax."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml
from monty.json import MSONable
from pymatgen.core import Element, Lattice, Structure

from gan_htvs.core.errors import CalculationError, UserError
from gan_htvs.core.files import write_atomically
from gan_htvs.structures.symmetry import primitive_crystal
from gan_htvs.structures.validity import unphysical_change
from gan_htvs.thermodynamics.hull import ReferenceEnergy, ReferenceSet, missing_elements

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.core.candidate import RelaxedStructure

REFERENCE_PHASES = Path(__file__).with_name("reference_phases.yaml")


@dataclass(frozen=True)
class ReferencePhase(MSONable):
    """A reference phase.

    Attributes
    ----------
    name
        Formula and the common name of the polymorph; unique.
    structure
        Primitive cell at the published lattice, A; a starting point for a relaxation.
    source
        Where lattice and coordinates come from.
    pinned_energy_per_atom
        eV/atom. Where it is given the phase is not relaxed and has this energy at every level of
        theory, as O2 does.
    published_energy_per_atom
        eV/atom, what the source says, corrections included.
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
        """Energy that is known without a calculation, eV/atom."""
        if self.pinned_energy_per_atom is None:
            return self.published_energy_per_atom
        return self.pinned_energy_per_atom


def reference_phases(elements: Iterable[str]) -> list[ReferencePhase]:
    """List the shipped reference phases of a chemical system, elements and subsystems included.

    Raises
    ------
    UserError
        If an element has no phase, without which neither formation energies nor a convex hull
        exist, or if the file does not cover one of the subsystems: candidates look too stable
        where their competing phases are missing.
    """
    wanted = {Element(symbol).symbol for symbol in elements}
    contents = [{site[0] for site in document["sites"]} for document in _shipped()["phases"]]
    known = set().union(*(content for content in contents if len(content) == 1))
    if missing := sorted(wanted - known):
        raise UserError(
            f"chemical_system: no reference phases are known for {', '.join(missing)}; choose "
            f"elements among {', '.join(sorted(known))} or add the missing ones and their "
            f"compounds to {REFERENCE_PHASES}."
        )
    covered = _systems(_shipped()["covered"]) | _systems(_shipped()["without_compounds"])
    if missing := [_chemsys(each) for each in _subsystems(wanted) if each not in covered]:
        raise UserError(
            f"references.source 'literature': no reference phases of {', '.join(missing)} are "
            "shipped, and without them candidates look too stable; use references.source "
            "'materials_project'."
        )
    return [_phase(number) for number, content in enumerate(contents) if content <= wanted]


def subsystems_without_phases(
    phases: Iterable[ReferencePhase], elements: Iterable[str]
) -> list[str]:
    """List the chemical subsystems of two or more elements that have no phase.

    Those of which the shipped file says that they have no compound are left out.
    """
    found = {frozenset(element.symbol for element in each.structure.elements) for each in phases}
    found |= _systems(_shipped()["without_compounds"])
    return [_chemsys(each) for each in _subsystems(elements) if each not in found]


def phases_of(campaign: Campaign, *, by_potential: bool = False) -> list[ReferencePhase]:
    """List the reference phases of a campaign, from the source that it names.

    Energies of the Materials Project stand beside those of VASP; where structures are relaxed
    ``by_potential``, it computes the reference phases, too.

    Those of the Materials Project come from the file that keeps them, never from the network: see
    :func:`gan_htvs.campaign.campaign_file.read_campaign`.

    Raises
    ------
    UserError
        If an element has no phase, the shipped phases do not cover a subsystem, or the file is
        missing, damaged, not what it was when its hash was written down, or was fetched with other
        settings.
    """
    settings = campaign.references
    elements = campaign.chemical_system.elements
    if settings.path is None:
        return reference_phases(elements)
    kept, phases = _read_phases(settings.path, settings.sha256)
    if kept != _kept_for(elements, settings.max_energy_above_hull):
        raise UserError(
            f"references.path {settings.path}: was fetched for {kept}; restore these settings, or "
            "name a file that is not there yet."
        )
    if missing := missing_elements([each.structure.composition for each in phases], elements):
        raise UserError(
            f"references.path {settings.path}: holds no elemental phase of {', '.join(missing)}, "
            "without which there is no hull; delete it to fetch one."
        )
    if by_potential or settings.energies == "computed":
        return list(phases)
    if any(phase.energy_per_atom is None for phase in phases):
        raise UserError(
            f"references.path {settings.path}: was written without energies; delete it to fetch "
            "them."
        )
    return [replace(phase, pinned_energy_per_atom=phase.energy_per_atom) for phase in phases]


def write_phases(
    path: Path,
    phases: Iterable[ReferencePhase],
    elements: Iterable[str],
    max_energy_above_hull: float,
) -> None:
    """Keep reference phases in a file.

    Parameters
    ----------
    path
        The file.
    phases
        What to keep.
    elements, max_energy_above_hull
        What they were fetched for; eV/atom.

    Raises
    ------
    UserError
        If the folder cannot be written to.
    """
    document = {
        "kept_for": _kept_for(elements, max_energy_above_hull),
        "phases": [phase.as_dict() for phase in phases],
    }
    write_atomically(path, json.dumps(document).encode())


def reference_set(
    phases: Iterable[ReferencePhase],
    relaxed: Mapping[str, RelaxedStructure | str],
    level_of_theory: str,
    *,
    potential_setting: str = "engines.energy.name",
    steps_setting: str | None = "engines.energy.max_steps",
) -> ReferenceSet:
    """Collect the energies of reference phases.

    Parameters
    ----------
    phases
        Reference phases, pinned ones included.
    relaxed
        Relaxation of each phase that is not pinned, by its name, or the reason why there is none.
    level_of_theory
        Label of the energies.
    potential_setting, steps_setting
        Settings of the potential and of its number of steps, to fix what is wrong; None: that
        number is fixed.

    Raises
    ------
    UserError
        If a phase has no energy, with the reason: candidates would look too stable without it.
    """
    entries = []
    for phase in phases:
        energy = phase.pinned_energy_per_atom
        if energy is None:
            try:
                energy = _energy(phase, relaxed[phase.name], potential_setting, steps_setting)
            except CalculationError as error:
                raise UserError(
                    f"reference phase {phase.name} has no energy of {level_of_theory}: {error}."
                ) from error
        entries.append(
            ReferenceEnergy(
                name=phase.name,
                formula=phase.formula,
                energy_per_atom=energy,
                level_of_theory=level_of_theory,
                source=phase.source,
            )
        )
    return ReferenceSet(entries=tuple(entries))


def _energy(
    phase: ReferencePhase,
    outcome: RelaxedStructure | str,
    potential_setting: str,
    steps_setting: str | None,
) -> float:
    """Return the energy of a relaxed phase, eV/atom, or raise a CalculationError with a hint."""
    hint = f"use another {potential_setting}"
    if isinstance(outcome, str):
        problem: str | None = outcome
    elif (problem := unphysical_change(phase.structure, outcome.structure)) is None:
        if not math.isfinite(outcome.energy_per_atom):
            problem = f"its energy is {outcome.energy_per_atom} eV/atom"
        elif outcome.converged:
            return outcome.energy_per_atom
        else:
            problem = f"relaxation not converged after {outcome.n_steps} steps"
            if steps_setting is not None:
                hint = f"raise {steps_setting} above {outcome.n_steps}"
    raise CalculationError(f"{problem}; {hint}")


@cache
def _read_phases(path: Path, sha256: str | None) -> tuple[str, tuple[ReferencePhase, ...]]:
    """Read what :func:`write_phases` wrote: what it was kept for, and the phases."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"references.path {path}: cannot be read ({error.strerror}); bring the file here."
        ) from error
    if sha256 not in (None, found := hashlib.sha256(content).hexdigest()):
        raise UserError(f"references.path {path}: has the hash {found}, not {sha256}; restore it.")
    try:
        document = json.loads(content, parse_constant=_refuse_constant)
        phases = tuple(ReferencePhase.from_dict(phase) for phase in document["phases"])
        return document["kept_for"], phases
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"references.path {path}: holds no reference phases; delete it to fetch them."
        ) from error


def _refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python reads in JSON."""
    raise ValueError(f"{name} is not a finite number")


def _kept_for(elements: Iterable[str], max_energy_above_hull: float) -> str:
    return f"{'-'.join(sorted(elements))} within {max_energy_above_hull:g} eV/atom of the hull"


@cache
def _shipped() -> dict[str, Any]:
    return yaml.safe_load(REFERENCE_PHASES.read_text(encoding="utf-8"))


def _systems(names: Iterable[str]) -> set[frozenset[str]]:
    return {frozenset(name.split("-")) for name in names}


def _chemsys(elements: Collection[str]) -> str:
    return "-".join(sorted(elements))


def _subsystems(elements: Iterable[str]) -> list[frozenset[str]]:
    """List all sets of two or more of the elements, small ones first."""
    symbols = sorted(elements)
    sizes = range(2, len(symbols) + 1)
    return [frozenset(each) for size in sizes for each in combinations(symbols, size)]


@cache
def _phase(number: int) -> ReferencePhase:
    document = _shipped()["phases"][number]
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
