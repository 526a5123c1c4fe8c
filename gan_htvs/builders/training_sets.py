"""What the generators of a database have seen, by reduced formula."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gan_htvs.candidate import Step
from gan_htvs.crystals import TrainingSet
from gan_htvs.dataset import Dataset
from gan_htvs.identity import content_hash

if TYPE_CHECKING:
    from collections.abc import Collection

    from maggma.core import Store
    from pymatgen.core import Structure


class TrainingSets:
    """Training sets that training jobs left, by the sha256 of the generator's checkpoint.

    Parameters
    ----------
    outputs
        Documents of the JobStore.
    """

    def __init__(self, outputs: Store) -> None:
        documents = outputs.query(
            {"metadata.step": Step.TRAIN.value, "output.training_set": {"$ne": None}},
            ["output.sha256", "output.training_set"],
        )
        self._sets = {
            document["output"]["sha256"]: _LearntFrom(document["output"]["training_set"])
            for document in documents
        }

    def __contains__(self, checkpoint: str) -> bool:
        return checkpoint in self._sets

    def of(self, checkpoints: Collection[str], formula: str) -> TrainingSet | None:
        """Collect what some generators have seen of a formula; None unless all are known."""
        if not checkpoints or any(checkpoint not in self._sets for checkpoint in checkpoints):
            return None
        sets = [self._sets[checkpoint] for checkpoint in sorted(checkpoints)]
        names = sorted({each.hash for each in sets})
        members = [member for each in sets for member in each.members.get(formula, [])]
        return TrainingSet(names[0] if len(names) == 1 else content_hash(names), members)


class _LearntFrom:
    """The structures of one set, unpacked when they are asked for."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.hash: str = document["hash"]
        self._document = document

    @cached_property
    def members(self) -> dict[str, list[tuple[str, Structure]]]:
        dataset = Dataset.from_document(self._document)
        members = defaultdict(list)
        for label, structure in zip(dataset.labels, dataset.structures(), strict=True):
            members[structure.composition.reduced_formula].append((label, structure))
        return members
