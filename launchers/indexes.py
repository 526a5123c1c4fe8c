"""Indexes of what campaigns leave in a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from launchers.builders import builders
from launchers.stores import OUTPUTS

if TYPE_CHECKING:
    from launchers.database import Databases

OF_OUTPUTS = (
    ("uuid",),
    # Who was judged is counted without a look into the documents, which are large.
    ("metadata.campaign", "metadata.step", "metadata.candidate_id"),
    ("metadata.campaign", "metadata.note", "metadata.formula"),
)


def ensure_indexes(databases: Databases) -> None:
    """Make those that are missing, before the first document comes or after many have."""
    outputs = databases.launchpad().db[OUTPUTS["collection_name"]]
    for fields in OF_OUTPUTS:
        outputs.create_index([(field, 1) for field in fields])
    for builder in builders(databases):
        builder.connect()
        builder.ensure_indexes()
