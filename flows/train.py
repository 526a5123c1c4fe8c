"""Train the generator of a campaign: dataset -> checkpoint."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jobflow import Job, job

from flows.steps import label
from gan_htvs import __version__
from gan_htvs.candidate import Step
from gan_htvs.dataset import build_dataset
from gan_htvs.errors import UserError
from gan_htvs.generator.checkpoint import load, read_bytes
from gan_htvs.generator.curves import LearningCurves
from gan_htvs.generator.presets import training_parameters
from gan_htvs.generator.processor import memory_shortage_told
from gan_htvs.generator.training import train
from gan_htvs.identity import content_hash, content_uuid

if TYPE_CHECKING:
    from collections.abc import Callable

    from gan_htvs.campaign import Campaign
    from gan_htvs.dataset import Dataset
    from gan_htvs.generator.checkpoint import TrainedGenerator
    from gan_htvs.generator.state import TrainingState
    from gan_htvs.generator.training import Progress

SCRATCH_VARIABLE = "GAN_HTVS_SCRATCH"
"""Directory, shared by restarts, where an interrupted training finds its last state."""

STATE_LIFETIME = timedelta(days=30)
"""After which nobody takes up a training again. States of trainings that ended are kept as long:
when the job returns, its output is not stored yet."""


def training_job(campaign: Campaign) -> Job:
    """Make the training job, named by dataset, chemical system and settings."""
    training = train_generator(campaign)
    training.set_uuid(content_uuid("train", campaign.training_key))
    label(training, training.uuid, Step.TRAIN, campaign.routing.train)
    return training


@job(data="weights")
def train_generator(campaign: Campaign) -> dict[str, Any]:
    """Build the dataset, train on it and keep the checkpoint in the file store.

    A campaign that names a checkpoint gets that one.

    Returns
    -------
    ``sha256`` and base64 ``weights`` of the safetensors checkpoint, the dataset's ``dataset``
    summary, the structures learnt from (``training_set``, see
    :meth:`gan_htvs.dataset.Dataset.as_document`; None where a checkpoint does not say) and the
    learning ``history``. The learning curves are in the job's directory.
    """
    if (checkpoint_file := campaign.generator.checkpoint_file) is not None:
        return _adopt(campaign, checkpoint_file)
    dataset = dataset_of(campaign)
    # What an older version left behind is another training.
    name = content_hash(campaign.training_key, dataset.hash, __version__)
    scratch = _scratch()
    _remove_old_states(scratch)
    state = scratch / f"training-{name}.safetensors"
    with LearningCurves(Path.cwd()) as curves:
        trained = train_on(
            dataset, campaign, state=state, on_progress=curves, on_resume=curves.resume
        )
    return _output(trained.to_bytes(), trained, dataset)


def _adopt(campaign: Campaign, path: Path) -> dict[str, Any]:
    """Take a generator that was trained before, as it is."""
    checkpoint = read_bytes(path)
    trained = load(path, expected_sha256=campaign.generator.sha256, system=campaign.chemical_system)
    dataset = None
    with suppress(UserError):  # the generator samples without the structures it learnt from
        dataset = dataset_of(campaign)
    known = dataset is not None and dataset.hash == trained.dataset
    return _output(checkpoint, trained, dataset if known else None)


def _output(
    checkpoint: bytes, trained: TrainedGenerator, dataset: Dataset | None
) -> dict[str, Any]:
    return {
        "sha256": hashlib.sha256(checkpoint).hexdigest(),
        "weights": base64.b64encode(checkpoint).decode(),
        "dataset": dataset and dataset.summary(),
        "training_set": dataset and dataset.as_document(),
        "history": trained.history,
    }


def dataset_of(campaign: Campaign) -> Dataset:
    """Build the training set of a campaign, without what it holds out."""
    settings = campaign.dataset
    whole = build_dataset(campaign.chemical_system, campaign.oxidation_states, settings)
    return whole.split(settings.held_out)[0]


def train_on(
    dataset: Dataset,
    campaign: Campaign,
    *,
    state: Path,
    on_progress: Progress | None = None,
    on_resume: Callable[[TrainingState], None] | None = None,
) -> TrainedGenerator:
    """Train with the settings of a campaign; ``state`` is the file from which it goes on.

    A published preset asks its generator for every charge-balanced composition within the caps,
    C_gen of the paper, not only for those that the campaign samples: these may become more later.
    """
    settings, system = campaign.generator, campaign.chemical_system
    parameters = training_parameters(settings.preset, settings.overrides)
    with memory_shortage_told(parameters):
        trained = train(
            dataset.images,
            dataset.counts,
            system,
            parameters,
            max_steps=settings.max_steps,
            max_seconds=settings.max_seconds,
            seed=settings.seed,
            weights=dataset.boltzmann_weights(parameters.energy_scale),
            conditions=np.array(list(system.compositions(campaign.oxidation_states))),
            device=settings.device,
            precision=settings.precision,
            checkpoint_path=state,
            on_progress=on_progress,
            on_resume=on_resume,
        )
    trained.dataset = dataset.hash
    return trained


def _scratch() -> Path:
    default = Path.home() / ".cache" / "gan-htvs"
    scratch = Path(os.environ.get(SCRATCH_VARIABLE) or default)
    scratch.mkdir(parents=True, exist_ok=True)
    return scratch


def _remove_old_states(scratch: Path) -> None:
    for state in scratch.glob("training-*.safetensors"):
        with suppress(OSError):
            found = state.stat()
            is_old = time.time() - found.st_mtime > STATE_LIFETIME.total_seconds()
            if is_old and found.st_uid == os.getuid():
                state.unlink()
