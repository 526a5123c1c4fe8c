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

    The training set of a generator of a later round is that of the first round, because the other
    structures were found by the campaign.

    Parameters
    ----------
    outputs
        Documents of the JobStore.
    candidates
        Candidates, whose origin contains the checkpoint of their generator.

    Attributes
    ----------
    checkpoints
        sha256 of the generators of the first round of each campaign, and whether their training set
        is stored. It may be stored later than the candidates that are compared with it.
    """

    def __init__(self, outputs: Store, candidates: Store) -> None:
        trainings = {"metadata.step": Step.TRAIN.value}
        documents = outputs.query(
            trainings | {"output.training_set": {"$ne": None}, "output.first": {"$exists": False}},
            ["output.sha256", "output.training_set"],
        )
        self._sets: dict[str, dict[str, Any]] = {
            document["output"]["sha256"]: document["output"]["training_set"]
            for document in documents
        }
        later = outputs.query(
            trainings | {"output.first": {"$exists": True}}, ["output.sha256", "output.first"]
        )
        self._first: dict[str, str] = {
            document["output"]["sha256"]: document["output"]["first"] for document in later
        }
        self._unpacked: dict[str, dict[str, list[tuple[str, Structure]]]] = {}
        self.checkpoints: dict[str, dict[str, bool]] = {}
        for campaign in candidates.distinct("campaign"):
            used = candidates.distinct("origin.checkpoint", {"campaign": campaign})
            first = {self._first.get(checkpoint, checkpoint) for checkpoint in filter(None, used)}
            self.checkpoints[campaign] = {
                checkpoint: checkpoint in self._sets for checkpoint in sorted(first)
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
