"""Results of the prescreen and of the selection after it."""

from __future__ import annotations

from pydantic import Field

from gan_htvs.core.candidate import PrescreenVerdict, Proposal, RelaxedStructure
from gan_htvs.core.document import Document
from gan_htvs.core.relaxation_result import RelaxationResult


class Screened(Document):
    """Structure after the prescreen."""

    proposal: Proposal
    verdict: PrescreenVerdict
    relaxation: RelaxationResult | None = Field(
        None, description="by the first potential, with its curve; None: not relaxed"
    )


class ScreenedBatch(Document):
    """Batch of structures after the prescreen."""

    screened: list[Screened] = Field(description="in the order of the structures")
    counts: dict[str, int] = Field(description="structures by rejecting step, and 'survived'")


class Survivor(Document):
    """Structure that is evaluated as a candidate."""

    proposal: Proposal
    relaxed: RelaxedStructure | None = Field(None, description="None: no prescreen")
    prescreen: PrescreenVerdict | None = None


class Selection(Document):
    """The survivors of one composition."""

    survivors: list[Survivor] = Field(description="most stable first, without duplicates")
    rejected: list[PrescreenVerdict] = Field(
        default_factory=list, description="duplicates of survivors of other batches"
    )
