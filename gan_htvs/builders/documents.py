"""What both builders read the same way, and write on every document."""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from gan_htvs import __version__
from gan_htvs.candidate import Step
from gan_htvs.stored_campaign import UnreadableCampaignError, stored_campaign

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggma.core import Store

    from gan_htvs.campaign import Campaign

LOGGER = logging.getLogger(__name__)


PACKAGES = ("emmet-core", "maggma", "pymatgen")
VERSIONS = {"gan_htvs": __version__} | {name: version(name) for name in PACKAGES}
"""What documents are built with, for their ``builder_meta``."""


def stored_campaigns(campaigns: Store) -> list[Campaign]:
    """Read the campaigns; one that this version cannot read is named in the log and left alone."""
    found = []
    for document in campaigns.query():
        try:
            found.append(stored_campaign(document))
        except UnreadableCampaignError as error:
            LOGGER.warning("left alone: %s", error)
    return found


def latest_gates(
    outputs: Store, campaigns: Sequence[str], fields: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Find the gate of each candidate, the last one if it ran again; ``output`` is a mapping."""
    gates = outputs.query(
        {"metadata.campaign": {"$in": list(campaigns)}, "metadata.step": Step.GATE.value},
        ["uuid", "completed_at", "metadata", *fields],
    )
    # Without an id nobody can be told.
    known = (gate for gate in gates if gate["metadata"].get("candidate_id"))
    in_order = sorted(known, key=lambda gate: (str(gate.get("completed_at")), gate["uuid"]))
    return {gate["metadata"]["candidate_id"]: gate | {"output": mapping(gate)} for gate in in_order}


def mapping(document: dict[str, Any]) -> dict[str, Any]:
    """Look into a document's output, which may be missing or anything."""
    output = document.get("output")
    return output if isinstance(output, dict) else {}
