"""Train the generator of the next round on what the earlier rounds found."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from jobflow import Job, Maker, OutputReference, job

from flows.routing import mark
from flows.train import TrainMaker, output_of
from gan_htvs import __version__
from gan_htvs.core.hashing import content_hash
from gan_htvs.core.stages import Step
from gan_htvs.dataset.enlarging import enlarge, sound_structures
from gan_htvs.dataset.training_set import Dataset
from gan_htvs.generator.checkpoint import load_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gan_htvs.core.candidate import Proposal


@dataclass
class RoundMaker(Maker):
    """Train a generator further on its training set and the structures of a round.

    Structures of all proposers that the prescreen relaxed join the training set, see
    :mod:`gan_htvs.dataset.enlarging`. The training starts from the weights of the previous round.

    Parameters
    ----------
    name
        Name of the job, before the number of the round.
    train_maker
        Maker of the first training, for its dataset and its limits.
    steps
        Training steps of the generator.
    max_energy_above_hull
        Largest energy above hull of structures that join the training set, eV/atom.
    max_structures
        Upper bound on the training set.

    Examples
    --------
    >>> from flows.train import TrainMaker
    >>> training = TrainMaker().make()
    >>> RoundMaker().make(2, training.output, []).name
    'train generator, round 2'
    """

    name: str = "train generator"
    train_maker: TrainMaker = field(default_factory=TrainMaker)
    steps: int = 1000
    max_energy_above_hull: float = 0.1
    max_structures: int = 4000

    def make(
        self,
        number: int,
        trained: OutputReference,
        batches: Sequence[OutputReference] | Sequence[list[Proposal]],
    ) -> Job:
        """Make the job.

        Parameters
        ----------
        number
            Number of the round that samples from the generator, from 2.
        trained
            Output of the training of the previous round.
        batches
            The ``proposals`` of the outputs of all prescreens of that round.

        Returns
        -------
        A job whose output has the fields of :class:`~flows.train.TrainMaker`, and ``round``;
        ``first``, the sha256 of the generator of the first round; the counts ``within``, ``new``
        and ``dropped`` of :class:`~gan_htvs.dataset.enlarging.Enlarged`; and ``stopped``, the
        reason if nothing was trained because the set has no new structure.
        """
        train_job = self.train(number, trained, list(batches))
        return mark(train_job, Step.TRAIN, "train", f"{self.name}, round {number}")

    @job(data="weights")
    def train(
        self, number: int, trained: dict[str, Any], batches: list[list[Proposal]]
    ) -> dict[str, Any]:
        """Enlarge the training set and train on it; an interrupted job resumes."""
        of_round = {"round": number, "first": trained.get("first") or trained["sha256"]}
        if trained.get("stopped") is not None:
            return trained | of_round | {"within": 0, "new": 0, "dropped": 0}
        start = load_output(trained, system=self.train_maker.system)
        previous = self._training_set(trained)
        enlarged = enlarge(
            previous,
            sound_structures(chain.from_iterable(batches)),
            max_energy_above_hull=self.max_energy_above_hull,
            max_structures=self.max_structures,
        )
        dataset = enlarged.dataset
        of_round |= {
            "within": enlarged.n_within,
            "new": enlarged.n_new,
            "dropped": enlarged.n_dropped,
        }
        if set(dataset.labels) <= set(previous.labels):
            reason = (
                f"round {number - 1} added nothing to the training set (structures within "
                f"{self.max_energy_above_hull:g} eV/atom of the hull: {enlarged.n_within}, new: "
                f"{enlarged.n_new}, dropped: {enlarged.n_dropped})"
            )
            return trained | of_round | {"stopped": reason}
        name = content_hash(
            "round",
            start.content_sha256,
            dataset.hash,
            None if dataset.energies_above_hull is None else dataset.energies_above_hull.tolist(),
            self.steps,
            self.train_maker.generator.seed,
            __version__,
        )
        result = self.train_maker.train_in_job(dataset, name, start=start, max_steps=self.steps)
        return output_of(result.to_bytes(), result, dataset) | of_round | {"stopped": None}

    def _training_set(self, trained: dict[str, Any]) -> Dataset:
        """Return the training set of the previous round, or that of the settings if unknown."""
        if trained["training_set"] is not None:
            return Dataset.from_document(trained["training_set"])
        return self.train_maker.training_set()
