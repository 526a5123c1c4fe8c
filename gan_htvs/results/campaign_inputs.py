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
        Number of training structures of its generator, before the first round; None if unknown, or
        if there are several generators.
    source_notes
        Sentences on files and structures of the user that were skipped, or changed when read, for
        the training sets of all its generators.
    """

    references: ReferenceSet | None = None
    n_training: int | None = None
    source_notes: tuple[str, ...] = ()

    @property
    def n_reference_phases(self) -> int | None:
        """Number of reference phases, whether or not their energy is pinned; None: unknown."""
        return None if self.references is None else self.references.n_phases


def read_inputs(
    outputs: Store,
    campaign: Campaign,
    candidates: Sequence[Mapping[str, Any]],
    owners: Sequence[str] = (),
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
    owners
        Owners of the jobs of the campaign, including shared ones. Its training is known by them
        before it has candidates.
    """
    hashes = Counter((row.get("gate") or {}).get("references") for row in candidates)
    del hashes[None]
    sets = stored_reference_sets(outputs) if hashes else {}
    used = (sets[name] for name, _ in hashes.most_common() if name in sets)
    datasets = _dataset_summaries(outputs, candidates, owners)
    own = campaign.structures.source_notes if campaign.structures else ()
    of_datasets = (note for summary in datasets for note in summary.get("source_notes", ()))
    return CampaignInputs(
        next(used, None),
        datasets[0].get("structures") if len(datasets) == 1 else None,
        tuple(dict.fromkeys((*own, *of_datasets))),
    )


def _dataset_summaries(
    outputs: Store, candidates: Sequence[Mapping[str, Any]], owners: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a summary of the first training set of each generator; empty if it is unknown."""
    checkpoints = {row["origin"].get("checkpoint") for row in candidates} - {None}
    trainings = {"metadata.step": Step.TRAIN.value}
    used_later = {"output.sha256": {"$in": sorted(checkpoints)}, "output.first": {"$exists": True}}
    for document in outputs.query(trainings | used_later, ["output.sha256", "output.first"]):
        checkpoints.discard(document["output"]["sha256"])
        checkpoints.add(document["output"]["first"])
    used = [
        {"output.sha256": {"$in": sorted(checkpoints)}},
        {"metadata.campaign": {"$in": [*owners]}},
    ]
    training = outputs.query(
        trainings | {"output.first": {"$exists": False}, "$or": used},
        ["completed_at", "output.sha256", "output.dataset"],
    )
    # A checkpoint that a campaign uses without training may have an output without dataset.
    summaries: dict[str, dict[str, Any]] = {name: {} for name in sorted(checkpoints)}
    for document in sorted(training, key=lambda document: document.get("completed_at") or ""):
        output = document["output"]
        summary = output.get("dataset") or summaries.get(output["sha256"], {})
        summaries[output["sha256"]] = summary
    return list(summaries.values())
