"""Builder of ``optimade_structures``: candidates as OPTIMADE entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from maggma.builders import MapBuilder
from optimade.adapters.structures.pymatgen import from_pymatgen

from gan_htvs.results.store import candidate_from_document

if TYPE_CHECKING:
    from maggma.core import Store

    from gan_htvs.core.candidate import Candidate

COLLECTION = "optimade_structures"


class Property(NamedTuple):
    """A property of an entry beyond those of the standard."""

    name: str
    type: str
    description: str
    unit: str | None = None


PROPERTIES = (
    Property("campaign", "string", "name of the campaign"),
    Property("stage", "string", "stage reached in the funnel, or rejected or failed"),
    Property("reason", "string", "why the candidate did not reach the next stage"),
    Property(
        "proposer",
        "string",
        "method that proposed the structure; reference_phase: from the reference set",
    ),
    Property(
        "is_relaxed", "boolean", "whether the structure is relaxed (true) or as generated (false)"
    ),
    Property("is_novel", "boolean", "matches neither a training structure nor a reference phase"),
    Property(
        "duplicate_of",
        "string",
        "id of the lowest-energy candidate of the same crystal, in any campaign",
    ),
    Property("space_group", "string", "space group symbol at a tolerance of 0.1 A"),
    Property("space_group_number", "integer", "space group number at a tolerance of 0.1 A"),
    Property("tight_space_group", "string", "space group symbol at a tolerance of 0.01 A"),
    Property("tight_space_group_number", "integer", "space group number at a tolerance of 0.01 A"),
    Property("level_of_theory", "string", "method of the energies"),
    Property("energy_per_atom", "float", "energy per atom, corrections included", "eV/atom"),
    Property("formation_energy_per_atom", "float", "formation energy from the elements", "eV/atom"),
    Property(
        "energy_above_hull",
        "float",
        "above the hull of reference phases and all candidates; 0: stable",
        "eV/atom",
    ),
    Property(
        "decomposition_energy",
        "float",
        "relative to the hull of all other phases: negative for a stable phase",
        "eV/atom",
    ),
    Property("reference_match", "string", "name of the reference phase that is the same crystal"),
    Property(
        "uncovered_subsystems",
        "list",
        "chemical systems without a reference phase, in which the hull is incomplete",
    ),
    Property(
        "pourbaix_min", "float", "Pourbaix decomposition energy at the most favorable pH", "eV/atom"
    ),
    Property("band_gap", "float", "band gap", "eV"),
    Property(
        "incomplete_band_gap", "float", "band gap without one of the magnetic orderings", "eV"
    ),
    Property("band_gap_reason", "string", "why the band gap is missing or incomplete"),
    Property("energy_incomplete", "string", "magnetic orderings that are missing from the energy"),
    Property("band_gap_method", "string", "method of the band gap"),
)
"""Additional properties; the server adds the provider's prefix to their names."""


class OptimadeBuilder(MapBuilder):
    """Write an entry for each new or changed candidate, and remove those of deleted ones.

    Attributes
    ----------
    refused
        Reasons why candidates have no entry, by id.

    Parameters
    ----------
    candidates
        Documents of :class:`gan_htvs.results.builders.candidates.CandidateBuilder`.
    entries
        Target: the collection :data:`COLLECTION`, keyed by ``candidate_id``.
    """

    def __init__(self, candidates: Store, entries: Store, chunk_size: int = 100) -> None:
        super().__init__(candidates, entries, chunk_size=chunk_size, delete_orphans=True)
        self.refused: dict[str, str] = {}

    def update_targets(self, items: list[dict[str, Any]]) -> None:
        """Write entries, except of candidates that the standard cannot represent."""
        refused = {item["candidate_id"]: item["error"] for item in items if "error" in item}
        self.refused |= refused
        self.target.remove_docs({"candidate_id": {"$in": list(refused)}})
        super().update_targets([item for item in items if "error" not in item])

    def unary_function(self, item: dict[str, Any]) -> dict[str, Any]:
        """Convert a candidate document to an entry."""
        return entry(candidate_from_document(item))


def entry(candidate: Candidate) -> dict[str, Any]:
    """Return a candidate as an OPTIMADE 1.2 structure, relaxed if available."""
    structure = candidate.structure or candidate.generated_structure
    attributes = from_pymatgen(structure).model_dump(mode="json")
    attributes["species"].sort(key=lambda species: species["name"])
    properties: dict[str, Any] = {
        "proposer": candidate.origin.proposer,
        "is_relaxed": candidate.structure is not None,
        "is_novel": candidate.novelty and candidate.novelty.is_novel,
        "reference_match": candidate.novelty and candidate.novelty.reference_match,
        "pourbaix_min": candidate.pourbaix and candidate.pourbaix.minimum,
        "stage": candidate.stage,
    }
    for prefix, symmetry in (("", candidate.symmetry), ("tight_", candidate.tight_symmetry)):
        properties[f"{prefix}space_group"] = symmetry and symmetry.symbol
        properties[f"{prefix}space_group_number"] = symmetry and symmetry.number
    properties |= {
        extra.name: getattr(candidate, extra.name)
        for extra in PROPERTIES
        if extra.name not in properties
    }
    return {
        **attributes,
        **properties,
        "id": candidate.candidate_id,
        "last_modified": candidate.last_updated,
    }
