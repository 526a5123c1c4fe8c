"""The known phases of a chemical system, as structures to relax."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml
from pymatgen.core import Element, Lattice, Structure

from gan_htvs.errors import UserError
from gan_htvs.files import write_atomically
from gan_htvs.spacegroup import primitive_crystal
from gan_htvs.thermodynamics.hull import ReferenceEnergy, ReferenceSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gan_htvs.campaign import Campaign
    from gan_htvs.candidate import Relaxed

REFERENCE_PHASES = Path(__file__).with_name("reference_phases.yaml")


@dataclass(frozen=True)
class ReferencePhase:
    """A known phase.

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
    """List the known phases made of some or all of ``elements``, elements included.

    Raises
    ------
    UserError
        If nothing is known about one of the elements: without its elemental phase neither
        formation energies nor a convex hull exist.
    """
    wanted = {Element(symbol).symbol for symbol in elements}
    contents = [{site[0] for site in document["sites"]} for document in _documents()]
    known = set().union(*(content for content in contents if len(content) == 1))
    if missing := sorted(wanted - known):
        raise UserError(
            f"chemical_system: no reference phases are known for {', '.join(missing)}; choose "
            f"elements among {', '.join(sorted(known))} or add the missing ones and their "
            f"compounds to {REFERENCE_PHASES}."
        )
    return [_phase(number) for number, content in enumerate(contents) if content <= wanted]


def phases_of(campaign: Campaign, *, by_potential: bool = False) -> list[ReferencePhase]:
    """List the known phases of a campaign, from the source that it names.

    Energies of the Materials Project stand beside those of VASP; where structures are relaxed
    ``by_potential``, it computes the known phases, too.

    Those of the Materials Project come from the file that keeps them, never from the network: see
    :func:`gan_htvs.campaign_file.read_campaign`.

    Raises
    ------
    UserError
        If an element has no known phase, or the file is missing, damaged, not what it was when its
        hash was written down, or was fetched with other settings.
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
    """Keep known phases in a file.

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
        "phases": [
            {
                "name": phase.name,
                "source": phase.source,
                "pinned_energy_per_atom": phase.pinned_energy_per_atom,
                "published_energy_per_atom": phase.published_energy_per_atom,
                "structure": phase.structure.as_dict(),
            }
            for phase in phases
        ],
    }
    write_atomically(path, json.dumps(document).encode())


def reference_set(
    phases: Iterable[ReferencePhase],
    relaxed: Mapping[str, Relaxed | None],
    level_of_theory: str,
    cure: str = "raise engines.energy.max_steps",
) -> ReferenceSet:
    """Collect the energies of known phases.

    Parameters
    ----------
    phases
        Known phases, pinned ones included.
    relaxed
        Relaxation of each phase that is not pinned, by its name; None where it failed.
    level_of_theory
        Label of the energies.
    cure
        What to do if a phase did not converge.

    Raises
    ------
    UserError
        If a phase did not converge: a hull without it would flatter the candidates.
    """
    entries = []
    for phase in phases:
        energy = phase.pinned_energy_per_atom
        if energy is None:
            result = relaxed.get(phase.name)
            if result is None or not result.converged:
                raise UserError(
                    f"reference phase {phase.name} did not converge with {level_of_theory}: {cure}"
                )
            energy = result.energy_per_atom
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
        phases = tuple(
            ReferencePhase(
                name=phase["name"],
                structure=Structure.from_dict(phase["structure"]),
                source=phase["source"],
                pinned_energy_per_atom=phase["pinned_energy_per_atom"],
                published_energy_per_atom=phase.get("published_energy_per_atom"),
            )
            for phase in document["phases"]
        )
        return document["kept_for"], phases
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"references.path {path}: holds no known phases; delete it to fetch them."
        ) from error


def _refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python reads in JSON."""
    raise ValueError(f"{name} is not a finite number")


def _kept_for(elements: Iterable[str], max_energy_above_hull: float) -> str:
    return f"{'-'.join(sorted(elements))} within {max_energy_above_hull:g} eV/atom of the hull"


@cache
def _documents() -> list[dict[str, Any]]:
    return yaml.safe_load(REFERENCE_PHASES.read_text(encoding="utf-8"))["phases"]


@cache
def _phase(number: int) -> ReferencePhase:
    document = _documents()[number]
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
