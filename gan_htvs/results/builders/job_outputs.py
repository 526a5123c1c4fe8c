"""Base class and readers of stored documents that the builders share."""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from maggma.core import Builder, Store

from gan_htvs import __version__
from gan_htvs.campaign.stored_campaign import UnreadableCampaignError, read_stored_campaign
from gan_htvs.core.document import decode, output_of, without_id
from gan_htvs.core.stages import Step
from gan_htvs.thermodynamics.hull import ReferenceSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gan_htvs.campaign.model import Campaign

LOGGER = logging.getLogger(__name__)


PACKAGES = ("emmet-core", "maggma", "pymatgen")
VERSIONS = {"gan_htvs": __version__} | {name: version(name) for name in PACKAGES}
"""Package versions, which are stored in ``builder_meta``."""


class BaseCandidateBuilder(Builder):
    """Base class of the builders that write candidates.

    Attributes
    ----------
    changed
        Ids of the candidates whose documents changed.

    Parameters
    ----------
    outputs
        Documents of the JobStore, keyed by ``uuid``.
    campaigns
        Campaign settings, keyed by ``name``.
    candidates
        Target, keyed by ``candidate_id``.
    chunk_size
        Number of items (candidates or formulas) in memory at a time.
    """

    def __init__(
        self, outputs: Store, campaigns: Store, candidates: Store, chunk_size: int = 100
    ) -> None:
        self.outputs = outputs
        self.campaigns = campaigns
        self.candidates = candidates
        self.changed: set[str] = set()
        super().__init__([outputs, campaigns], [candidates], chunk_size)


def stored_campaigns(campaigns: Store) -> list[Campaign]:
    """Read the campaigns; skip those that this version cannot read, with a warning."""
    readable = []
    for document in campaigns.query():
        try:
            readable.append(read_stored_campaign(document))
        except UnreadableCampaignError as error:
            LOGGER.warning("campaign skipped: %s", error)
    return readable


def stored_candidates(
    candidates: Store, ids: Iterable[str], fields: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Read candidate documents, or some of their fields, by id."""
    properties = ["candidate_id", *fields] if fields else None
    documents = candidates.query({"candidate_id": {"$in": sorted(ids)}}, properties)
    return {document["candidate_id"]: without_id(document) for document in documents}


def latest_gates(
    outputs: Store, campaigns: Sequence[str], fields: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return the latest gate job of each candidate; its ``output`` is always a mapping."""
    gates = outputs.query(
        {"metadata.campaign": {"$in": list(campaigns)}, "metadata.step": Step.GATE.value},
        ["uuid", "index", "completed_at", "metadata", *fields],
    )
    with_candidate = (gate for gate in gates if gate["metadata"].get("candidate_id"))
    in_order = sorted(
        with_candidate,
        key=lambda gate: (str(gate.get("completed_at")), gate["uuid"], gate.get("index", 1)),
    )
    return {
        gate["metadata"]["candidate_id"]: gate | {"output": output_of(gate)} for gate in in_order
    }


def outputs_by_uuid(outputs: Store, uuids: Iterable[str]) -> dict[str, Any]:
    """Read the latest output of each job."""
    documents = outputs.query(
        {"uuid": {"$in": sorted(uuids)}}, ["uuid", "output"], sort={"completed_at": 1, "index": 1}
    )
    return {document["uuid"]: document.get("output") for document in documents}


def stored_reference_sets(outputs: Store) -> dict[str, ReferenceSet]:
    """Read all reference sets, by content hash."""
    query = {"metadata.step": Step.REFERENCES.value, "output.@class": ReferenceSet.__name__}
    decoded = (decode(document["output"]) for document in outputs.query(query, ["output"]))
    return {
        references.content_hash: references
        for references in decoded
        if isinstance(references, ReferenceSet)
    }
