"""The known phases of a chemical system, as structures to relax."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pymatgen.core import Element, Lattice, Structure

from gan_htvs.errors import UserError
from gan_htvs.spacegroup import primitive_crystal
from gan_htvs.thermodynamics.hull import ReferenceEnergy, ReferenceSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
    """

    name: str
    structure: Structure
    source: str
    pinned_energy_per_atom: float | None = None

    @property
    def formula(self) -> str:
        """Reduced formula."""
        return self.structure.composition.reduced_formula


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
    return [
        _phase(document)
        for document, content in zip(_documents(), contents, strict=True)
        if content <= wanted
    ]


def reference_set(
    phases: Iterable[ReferencePhase], relaxed: Mapping[str, Relaxed | None], level_of_theory: str
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
                    f"reference phase {phase.name} did not converge with {level_of_theory}: raise "
                    "engines.energy.max_steps"
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
def _documents() -> list[dict[str, Any]]:
    return yaml.safe_load(REFERENCE_PHASES.read_text(encoding="utf-8"))["phases"]


def _phase(document: dict[str, Any]) -> ReferencePhase:
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
