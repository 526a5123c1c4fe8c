"""Training structures of the generators of a database, by reduced formula."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from gan_htvs.core.hashing import content_hash
from gan_htvs.core.stages import Step
from gan_htvs.dataset.training_set import Dataset
from gan_htvs.structures.crystals import TrainingSet

if TYPE_CHECKING:
    from maggma.core import Store
    from pymatgen.core import Structure


class TrainingSets:
    """Training sets of the generators of each campaign, as stored by training jobs.

    Parameters
    ----------
    outputs
        Documents of the JobStore.
    candidates
        Candidates, whose origin contains the checkpoint of their generator.

    Attributes
    ----------
    checkpoints
        sha256 of the generator checkpoints of each campaign, and whether their training set is
        stored. It may be stored later than the candidates that are compared with it.
    """

    def __init__(self, outputs: Store, candidates: Store) -> None:
        documents = outputs.query(
            {"metadata.step": Step.TRAIN.value, "output.training_set": {"$ne": None}},
            ["output.sha256", "output.training_set"],
        )
        self._sets: dict[str, dict[str, Any]] = {
            document["output"]["sha256"]: document["output"]["training_set"]
            for document in documents
        }
        self._unpacked: dict[str, dict[str, list[tuple[str, Structure]]]] = {}
        self.checkpoints: dict[str, dict[str, bool]] = {}
        for campaign in candidates.distinct("campaign"):
            used = candidates.distinct("origin.checkpoint", {"campaign": campaign})
            self.checkpoints[campaign] = {
                checkpoint: checkpoint in self._sets for checkpoint in sorted(filter(None, used))
            }

    def get(self, campaign: str, formula: str) -> TrainingSet | None:
        """Return the training structures of a formula; None unless all training sets are stored."""
        checkpoints = self.checkpoints[campaign]
        if not checkpoints:
            return TrainingSet()
        if not all(checkpoints.values()):
            return None
        names = sorted({self._sets[checkpoint]["hash"] for checkpoint in checkpoints})
        members = [
            member
            for checkpoint in checkpoints
            for member in self._members(checkpoint).get(formula, [])
        ]
        return TrainingSet(names[0] if len(names) == 1 else content_hash(names), members)

    def _members(self, checkpoint: str) -> dict[str, list[tuple[str, Structure]]]:
        """Return labels and structures by reduced formula; unpacked at first use."""
        if checkpoint not in self._unpacked:
            dataset = Dataset.from_document(self._sets[checkpoint])
            members = self._unpacked[checkpoint] = defaultdict(list)
            for label, structure in zip(dataset.labels, dataset.structures(), strict=True):
                members[structure.composition.reduced_formula].append((label, structure))
        return self._unpacked[checkpoint]
