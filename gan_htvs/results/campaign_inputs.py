"""Reference phases and training structures with which the candidates of a campaign were made."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from gan_htvs.core.stages import Step
from gan_htvs.results.builders.job_outputs import stored_reference_sets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from maggma.core import Store

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.thermodynamics.hull import ReferenceSet

INPUT_FIELDS = ("gate.references", "origin.checkpoint")
"""Fields of a candidate that name these inputs."""


class CampaignInputs(NamedTuple):
    """Inputs of a campaign.

    Attributes
    ----------
    references
        Reference set that most candidates were compared with; None if no candidate was compared.
    n_training
        Number of training structures of its generator; None if unknown, or if there are several
        generators.
    source_notes
        Sentences on files and structures of the user that were skipped, or changed when read.
    """

    references: ReferenceSet | None = None
    n_training: int | None = None
    source_notes: tuple[str, ...] = ()

    @property
    def n_reference_phases(self) -> int | None:
        """Number of reference phases, whether or not their energy is pinned; None: unknown."""
        return None if self.references is None else self.references.n_phases


def read_inputs(
    outputs: Store, campaign: Campaign, candidates: Sequence[Mapping[str, Any]]
) -> CampaignInputs:
    """Read the inputs of a campaign.

    Parameters
    ----------
    outputs
        Documents of the JobStore.
    campaign
        The campaign.
    candidates
        Candidates of the campaign with the fields :data:`INPUT_FIELDS`.
    """
    hashes = Counter((row.get("gate") or {}).get("references") for row in candidates)
    del hashes[None]
    sets = stored_reference_sets(outputs) if hashes else {}
    used = (sets[name] for name, _ in hashes.most_common() if name in sets)
    dataset = _dataset_summary(outputs, candidates)
    own = campaign.structures.source_notes if campaign.structures else ()
    return CampaignInputs(
        next(used, None),
        dataset.get("structures"),
        (*own, *dataset.get("source_notes", ())),
    )


def _dataset_summary(outputs: Store, candidates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the summary of the training set; empty if unknown or if there are several."""
    checkpoints = {row["origin"].get("checkpoint") for row in candidates} - {None}
    if len(checkpoints) != 1:
        return {}
    trained = outputs.query_one(
        {"metadata.step": Step.TRAIN.value, "output.sha256": checkpoints.pop()},
        ["output.dataset"],
    )
    return (trained and trained["output"].get("dataset")) or {}
