"""Builder: ``candidates`` -> ``optimade_structures``, in the words of the OPTIMADE standard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from maggma.builders import MapBuilder
from maggma.core import Builder
from optimade.adapters.structures.pymatgen import from_pymatgen

from gan_htvs.results.store import candidate_from_document

if TYPE_CHECKING:
    from maggma.core import Store

    from gan_htvs.core.candidate import Candidate

COLLECTION = "optimade_structures"


class Property(NamedTuple):
    """What an entry has beside the properties of the standard."""

    name: str
    type: str
    description: str
    unit: str | None = None


PROPERTIES = (
    Property("campaign", "string", "campaign that it belongs to"),
    Property("stage", "string", "furthest stage of the funnel, or rejected or failed"),
    Property("reason", "string", "why it did not go further"),
    Property("proposer", "string", "proposer; reference_phase: of the reference set"),
    Property("is_relaxed", "boolean", "whether the structure is relaxed, or as it was generated"),
    Property("is_novel", "boolean", "neither a training structure nor a reference phase"),
    Property(
        "duplicate_of", "string", "id of the same crystal with the lowest energy, of any campaign"
    ),
    Property("level_of_theory", "string", "what computed the energies"),
    Property("energy_per_atom", "float", "corrections included", "eV/atom"),
    Property("formation_energy_per_atom", "float", "from the elements", "eV/atom"),
    Property("energy_above_hull", "float", "above reference phases and all candidates", "eV/atom"),
    Property("pourbaix_min", "float", "decomposition energy in water at the best pH", "eV/atom"),
    Property("band_gap", "float", "between the highest filled and the lowest empty band", "eV"),
    Property(
        "incomplete_band_gap", "float", "gap while magnetic orders are missing: no result", "eV"
    ),
    Property("band_gap_reason", "string", "why there is no band gap, or why it is incomplete"),
    Property("energy_incomplete", "string", "which magnetic orders are missing from the energies"),
    Property("band_gap_method", "string", "what computed the band gap"),
)
"""Served with the provider's prefix before their names."""


class OptimadeBuilder(MapBuilder):
    """Write an entry for each candidate that is new or changed.

    Attributes
    ----------
    refused
        Why candidates have none, by id.

    Parameters
    ----------
    candidates
        What :class:`gan_htvs.results.builders.candidates.CandidateBuilder` wrote.
    entries
        Target, the collection :data:`COLLECTION`, keyed by ``candidate_id``.
    """

    def __init__(self, candidates: Store, entries: Store, chunk_size: int = 100) -> None:
        super().__init__(candidates, entries, chunk_size=chunk_size)
        self.refused: dict[str, str] = {}

    def update_targets(self, items: list[dict[str, Any]]) -> None:
        """Write entries; a candidate that is no structure of the standard has none."""
        refused = {item["candidate_id"]: item["error"] for item in items if "error" in item}
        self.refused |= refused
        self.target.remove_docs({"candidate_id": {"$in": list(refused)}})
        super().update_targets([item for item in items if "error" not in item])

    def finalize(self) -> None:
        """Remove entries whose candidate does not exist any more."""
        there = set(self.source.distinct("candidate_id", self.query))
        gone = set(self.target.distinct("candidate_id")) - there
        self.target.remove_docs({"candidate_id": {"$in": sorted(gone)}})
        Builder.finalize(self)

    def unary_function(self, item: dict[str, Any]) -> dict[str, Any]:
        """Write a candidate as an entry."""
        return entry(candidate_from_document(item))


def entry(candidate: Candidate) -> dict[str, Any]:
    """Write a candidate as a structure of OPTIMADE 1.2, relaxed if it was."""
    structure = candidate.structure or candidate.generated_structure
    attributes = from_pymatgen(structure).model_dump(mode="json")
    attributes["species"].sort(key=lambda species: species["name"])
    ours = {
        "proposer": candidate.origin.proposer,
        "is_relaxed": candidate.structure is not None,
        "is_novel": candidate.novelty and candidate.novelty.is_novel,
        "pourbaix_min": candidate.pourbaix and candidate.pourbaix.minimum,
        "stage": candidate.stage.value,
    }
    ours |= {
        each.name: getattr(candidate, each.name) for each in PROPERTIES if each.name not in ours
    }
    return {
        **attributes,
        **ours,
        "id": candidate.candidate_id,
        "last_modified": candidate.last_updated,
    }
