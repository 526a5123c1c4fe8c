"""The results store: typed access to the candidates collection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gan_htvs.assessment import Judge
from gan_htvs.candidate import Candidate, Stage
from gan_htvs.documents import decode, without_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from maggma.core import Store

SUMMARY_FIELDS = (
    "candidate_id",
    "campaign",
    "formula_pretty",
    "nsites",
    "symmetry.symbol",
    "failure.folder",
    "oxidation_states.average",
    "origin.proposer",
    "origin.label",
    "origin.requested_composition",
    "energy_above_hull",
    "energy_above_references",
    "novelty.is_novel",
    "duplicate_of",
    "pourbaix.minimum",
    "band_gap",
    "band_gap_method",
    "band_gap_reason",
    "level_of_theory",
    "stage",
    "reason",
)
"""Fields of a table row: everything but the structures."""


class CandidateStore:
    """Query the candidates of one or all campaigns: computed ones, or those of rehearsals.

    Parameters
    ----------
    store
        A maggma store over the ``candidates`` collection.
    rehearsal
        Whether to see the candidates of rehearsals; nobody sees both at a time.
    """

    def __init__(self, store: Store, *, rehearsal: bool = False) -> None:
        self._store = store
        self._kind = {"is_rehearsal": True if rehearsal else {"$ne": True}}
        store.connect()

    def rows(
        self,
        *,
        campaign: str | None = None,
        stage: Stage | None = None,
        proposer: str | None = None,
        limit: int = 0,
    ) -> list[dict[str, Any]]:
        """Summaries without structures, most stable first; without a believed energy last."""
        criteria = self._kind | _criteria(campaign=campaign, stage=stage, proposer=proposer)
        # MongoDB sorts missing values first, so the order is made here.
        rows = [without_id(doc) for doc in self._store.query(criteria, list(SUMMARY_FIELDS))]
        rows.sort(key=_stability_order)
        return rows[:limit] if limit else rows

    def candidates(
        self, *, campaign: str | None = None, stage: Stage | None = None
    ) -> Iterator[Candidate]:
        """Full documents with pymatgen structures."""
        for document in self._store.query(self._kind | _criteria(campaign=campaign, stage=stage)):
            yield candidate_from_document(document)

    def get(self, candidate_id: str) -> Candidate | None:
        """One candidate by its id, or None."""
        document = self._store.query_one(self._kind | {"candidate_id": candidate_id})
        return candidate_from_document(document) if document else None


def candidate_from_document(document: dict[str, Any]) -> Candidate:
    """Turn a stored document back into a candidate."""
    return Candidate.model_validate(decode(without_id(document)))


def _criteria(
    *, campaign: str | None, stage: Stage | None, proposer: str | None = None
) -> dict[str, str]:
    wanted = {"campaign": campaign, "stage": stage and stage.value, "origin.proposer": proposer}
    return {field: value for field, value in wanted.items() if value is not None}


def _stability_order(row: dict[str, Any]) -> tuple[bool, float, str]:
    energy = row.get("energy_above_hull")
    if energy is None or not Judge.believes(energy):
        return True, 0.0, row["candidate_id"]
    return False, energy, row["candidate_id"]
