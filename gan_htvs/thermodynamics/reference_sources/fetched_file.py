"""The file in which fetched reference phases are kept, with their provenance."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ConfigDict, Field
from pymatgen.core import Structure

from gan_htvs.core.document import Document
from gan_htvs.core.files import write_atomically
from gan_htvs.thermodynamics.references import ReferencePhase

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Provenance(Document):
    """Origin of fetched reference phases."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="'optimade' or 'materials_project'")
    provider: str = Field(description="name of the database")
    base_url: str | None = Field(None, description="address of an OPTIMADE server")
    elements: tuple[str, ...] = Field(description="chemical system, in alphabetical order")
    max_energy_above_hull: float = Field(
        description="largest energy above the hull of the provider, eV/atom"
    )
    has_energies: bool = Field(
        True, description="whether the provider has energies; otherwise all structures are kept"
    )
    filters: tuple[str, ...] = Field((), description="queries, one for each chemical system")
    fetched_at: datetime = Field(default_factory=lambda: datetime.now(UTC), description="UTC")
    n_entries: int = Field(description="number of entries that the provider returned")
    skipped: dict[str, int] = Field(
        default_factory=dict, description="number of entries that are not kept, by reason"
    )

    @property
    def request(self) -> str:
        """The settings of the request, in words."""
        database = " ".join(dict.fromkeys([self.source, self.provider]))
        bound = f"within {self.max_energy_above_hull:g} eV/atom of the hull"
        part = bound if self.has_energies else "all structures"
        return f"{'-'.join(self.elements)} from {database}, {part}"

    def covers(self, request: Provenance) -> bool:
        """Return whether the phases of another request are among those of this one."""
        names = ("source", "provider", "max_energy_above_hull")
        same = all(getattr(self, name) == getattr(request, name) for name in names)
        return same and set(request.elements) <= set(self.elements)


class FetchedPhases(NamedTuple):
    """Reference phases of a database."""

    phases: list[ReferencePhase]
    """All phases of the chemical system and its subsystems."""
    provenance: Provenance
    """Origin of the phases."""


def write_fetched(path: Path, fetched: FetchedPhases) -> None:
    """Write fetched reference phases to a file.

    Raises
    ------
    UserError
        If the folder is not writable.
    """
    document = {
        "provenance": fetched.provenance.model_dump(mode="json"),
        "phases": [_as_dict(phase) for phase in fetched.phases],
    }
    write_atomically(path, json.dumps(document).encode())


def parse_fetched(document: Mapping[str, Any]) -> FetchedPhases:
    """Read the document of :func:`write_fetched`.

    Raises
    ------
    ValueError, KeyError, TypeError
        If it is another document.
    """
    return FetchedPhases(
        [_from_dict(phase) for phase in document["phases"]],
        Provenance.model_validate(document["provenance"]),
    )


def _as_dict(phase: ReferencePhase) -> dict[str, Any]:
    return {
        "name": phase.name,
        "source": phase.source,
        "published_energy_per_atom": phase.published_energy_per_atom,
        "structure": phase.structure.as_dict(),
    }


def _from_dict(document: Mapping[str, Any]) -> ReferencePhase:
    energy = document["published_energy_per_atom"]
    return ReferencePhase(
        name=str(document["name"]),
        structure=Structure.from_dict(document["structure"]),
        source=str(document["source"]),
        published_energy_per_atom=None if energy is None else float(energy),
    )
