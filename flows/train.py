"""Train a generator on a dataset."""

from __future__ import annotations

import base64
import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jobflow import Job, Maker, job

from flows.naming import WITHOUT_EFFECT
from flows.routing import mark
from flows.scratch import scratch_file
from gan_htvs import __version__
from gan_htvs.campaign.model import DatasetSettings, GeneratorSettings
from gan_htvs.core.chemical_system import ChemicalSystem, range_pairs
from gan_htvs.core.errors import UserError
from gan_htvs.core.hashing import content_hash
from gan_htvs.core.stages import Step
from gan_htvs.dataset.training_set import build_dataset
from gan_htvs.generator.checkpoint import load, read_bytes
from gan_htvs.generator.curves import LearningCurves
from gan_htvs.generator.presets import training_parameters
from gan_htvs.generator.processor import memory_shortage_as_user_error
from gan_htvs.generator.training import train
from gan_htvs.structures.geometry_limits import GeometryLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.dataset.training_set import Dataset
    from gan_htvs.generator.checkpoint import TrainedGenerator, TrainingState
    from gan_htvs.generator.training import Progress

MG_MN_O = ChemicalSystem(caps={"Mg": 8, "Mn": 8, "O": 12})
"""Chemical system of the published search."""


@dataclass
class TrainMaker(Maker):
    """Train a generator on a dataset, or load a trained one.

    Parameters
    ----------
    name
        Name of the job.
    system
        Elements and caps.
    oxidation_states
        Lowest and highest average oxidation state of each element.
    dataset
        Where the training structures come from.
    generator
        Network and length of the training; with ``checkpoint`` nothing is trained.
    geometry
        Limits for the structures.

    Examples
    --------
    >>> from jobflow import run_locally
    >>> from gan_htvs.campaign.model import GeneratorSettings
    >>> training = TrainMaker(generator=GeneratorSettings(checkpoint="shipped")).make()
    >>> outputs = run_locally(training, log=False)
    >>> outputs[training.uuid][1].output["sha256"][:12]
    'fd00c8269b6c'
    """

    name: str = "train generator"
    system: ChemicalSystem = MG_MN_O
    oxidation_states: dict[str, tuple[float, float]] = field(
        default_factory=lambda: {"Mg": (2, 2), "Mn": (2, 4), "O": (-2, -2)}
    )
    dataset: DatasetSettings = field(default_factory=DatasetSettings)
    generator: GeneratorSettings = field(default_factory=GeneratorSettings)
    geometry: GeometryLimits = field(default_factory=GeometryLimits)

    def __post_init__(self) -> None:
        """Restore types that a database does not store."""
        self.oxidation_states = range_pairs(self.oxidation_states)

    @classmethod
    def of(cls, campaign: Campaign) -> TrainMaker:
        """Make the Maker of a campaign."""
        return cls(
            system=campaign.chemical_system,
            oxidation_states=dict(campaign.oxidation_states),
            dataset=campaign.dataset,
            generator=campaign.generator,
            geometry=campaign.geometry,
        )

    def make(self) -> Job:
        """Make the job.

        Returns
        -------
        A job whose output is a mapping: ``sha256`` and base64 ``weights`` of the safetensors
        checkpoint, the ``dataset`` summary, the structures (``training_set``, see
        :meth:`gan_htvs.dataset.training_set.Dataset.as_document`; None if a checkpoint is of
        another dataset) and the training ``history``. The learning curves are in the job's
        directory.
        """
        return mark(self.train(), Step.TRAIN, "train", self.name)

    @job(data="weights")
    def train(self) -> dict[str, Any]:
        """Build the dataset and train on it; the checkpoint goes to the file store."""
        if (checkpoint_file := self.generator.checkpoint_file) is not None:
            return self._load_checkpoint(checkpoint_file)
        dataset = self.training_set()
        # The version is part of the name: states of other versions are not used.
        name = content_hash(
            self.system.elements,  # the order of the rows, which a mapping does not keep
            self.system,
            self.oxidation_states,
            self.generator.model_dump(exclude=set(WITHOUT_EFFECT)),
            dataset.hash,
            __version__,
        )
        trained = self.train_in_job(dataset, name)
        return output_of(trained.to_bytes(), trained, dataset)

    def train_in_job(
        self,
        dataset: Dataset,
        name: str,
        *,
        start: TrainedGenerator | None = None,
        max_steps: int | None = None,
    ) -> TrainedGenerator:
        """Train with learning curves in the current folder; the state is kept under ``name``."""
        state = scratch_file(f"training-{name}.safetensors") or Path("training.safetensors")
        with LearningCurves(Path.cwd()) as curves:
            return self.train_on(
                dataset,
                state=state,
                start=start,
                max_steps=max_steps,
                on_progress=curves,
                on_resume=lambda resumed: curves(*resumed.history),
            )

    def _load_checkpoint(self, path: Path) -> dict[str, Any]:
        checkpoint = read_bytes(path)
        trained = load(path, expected_sha256=self.generator.sha256, system=self.system)
        dataset = None
        with suppress(UserError):  # sampling does not need the training structures
            dataset = self.training_set()
        is_same = dataset is not None and dataset.hash == trained.dataset
        return output_of(checkpoint, trained, dataset if is_same else None)

    def training_set(self) -> Dataset:
        """Build the dataset, without the structures that are held out."""
        dataset = build_dataset(
            self.system, self.oxidation_states, self.dataset, geometry=self.geometry
        )
        return dataset.split(self.dataset.held_out)[0]

    def train_on(
        self,
        dataset: Dataset,
        *,
        state: Path,
        on_progress: Progress,
        on_resume: Callable[[TrainingState], None],
        start: TrainedGenerator | None = None,
        max_steps: int | None = None,
    ) -> TrainedGenerator:
        """Train in this process; ``state`` is the file from which an interrupted training resumes.

        A published preset conditions its generator on every charge-balanced composition within the
        caps (C_gen of the paper), so that compositions can be added to a campaign later. With
        ``start``, the training begins with the weights of this generator and has its parameters.
        ``max_steps`` replaces the number of steps in the settings.
        """
        settings = self.generator
        parameters = (
            start.parameters
            if start is not None
            else training_parameters(settings.preset, settings.overrides)
        )
        with memory_shortage_as_user_error(parameters):
            trained = train(
                dataset.images,
                dataset.counts,
                self.system,
                parameters,
                max_steps=settings.max_steps if max_steps is None else max_steps,
                max_seconds=settings.max_seconds,
                seed=settings.seed,
                weights=dataset.boltzmann_weights(parameters.energy_scale),
                conditions=np.array(list(self.system.compositions(self.oxidation_states))),
                start=start,
                device=settings.device,
                precision=settings.precision,
                checkpoint_path=state,
                on_progress=on_progress,
                on_resume=on_resume,
            )
        trained.dataset = dataset.hash
        return trained


def output_of(
    checkpoint: bytes, trained: TrainedGenerator, dataset: Dataset | None
) -> dict[str, Any]:
    """Return the output of a training job."""
    return {
        "sha256": hashlib.sha256(checkpoint).hexdigest(),
        "weights": base64.b64encode(checkpoint).decode(),
        "dataset": dataset and dataset.summary(),
        "training_set": dataset and dataset.as_document(),
        "history": trained.history,
    }
