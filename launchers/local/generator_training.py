"""Training of a generator outside a campaign run, with losses and the remaining time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flows.train import TrainMaker
from gan_htvs.core.errors import UserError
from gan_htvs.core.files import locked_folder
from gan_htvs.generator.curves import LearningCurves, format_losses
from gan_htvs.generator.processor import Processor
from launchers.console import output as console

if TYPE_CHECKING:
    from pathlib import Path

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.generator.checkpoint import TrainedGenerator, TrainingState

STATE_FILE = "training.safetensors"
"""File with the state from which a training continues."""


def train_campaign(campaign: Campaign, folder: Path, *, half: bool = False) -> Path:
    """Train the generator of a campaign, or continue its training; return the checkpoint path.

    Parameters
    ----------
    campaign
        Campaign with the dataset and the generator settings.
    folder
        Folder of the checkpoint, named by its content, the learning curves and the training state.
        The state is kept; a run with a larger ``max_steps`` continues from it.
    half
        Whether to store the weights as float16.

    Raises
    ------
    UserError
        If the training cannot start, diverges or cannot be written.
    """
    settings = campaign.generator
    if settings.checkpoint is not None:
        raise UserError(
            f"generator.checkpoint: the campaign uses the generator {settings.checkpoint} without "
            "training; remove this setting to train a new generator."
        )
    processor = Processor.choose(settings.device, settings.precision)
    bounds = f"{settings.max_steps} steps"
    if settings.max_seconds is not None:
        bounds += f" and {settings.max_seconds:g} s"
    with locked_folder(folder, "--output"):
        console.out.print(f"training on {processor}, {bounds} at most")
        trained = _train(campaign, folder)
        console.out.print(f"{trained.steps} steps in {trained.seconds:.0f} s")
        return (trained.halved() if half else trained).save_in(folder)


def _train(campaign: Campaign, folder: Path) -> TrainedGenerator:
    settings = campaign.generator
    maker = TrainMaker.of(campaign)
    dataset = maker.training_set()
    console.print_training_set(dataset)
    began, first_step, earlier = time.monotonic(), 0, 0.0
    with LearningCurves(folder) as curves, console.WorkProgress(console.out) as show:
        if curves.note is not None:
            console.note(curves.note)

        def on_progress(entry: dict[str, float]) -> None:
            curves(entry)
            step = int(entry["step"])
            elapsed = time.monotonic() - began
            left = elapsed / (step - first_step) * (settings.max_steps - step)
            if settings.max_seconds is not None:
                left = max(0.0, min(left, settings.max_seconds - earlier - elapsed))
            show("training", step, settings.max_steps, format_losses(entry), seconds_left=left)

        def on_resume(state: TrainingState) -> None:
            nonlocal first_step, earlier
            first_step, earlier = state.steps, state.seconds
            curves(*state.history)
            spent = f"{state.seconds:.0f} s on {state.processor}"
            console.out.print(f"continuing after step {state.steps}, {spent}")

        return maker.train_on(
            dataset,
            state=folder / STATE_FILE,
            on_progress=on_progress,
            on_resume=on_resume,
        )
