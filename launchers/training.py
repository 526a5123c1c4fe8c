"""Training outside a campaign's run, with a bar that shows losses and the remaining time."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from flows.train import TrainMaker
from gan_htvs.errors import UserError
from gan_htvs.files import held
from gan_htvs.generator.curves import LearningCurves
from gan_htvs.generator.processor import Processor
from launchers import console

if TYPE_CHECKING:
    from pathlib import Path

    from gan_htvs.campaign import Campaign, GeneratorSettings
    from gan_htvs.generator.checkpoint import TrainedGenerator, TrainingState

STATE_FILE = "training.safetensors"
"""What an interrupted training goes on from."""


def train_campaign(campaign: Campaign, folder: Path, *, half: bool = False) -> Path:
    """Train the generator of a campaign, or go on with it; return the checkpoint's path.

    Parameters
    ----------
    campaign
        Its dataset and generator settings decide everything.
    folder
        Gets the checkpoint, named by its content, the learning curves and the training state,
        which stays, so that a larger ``max_steps`` goes on from there.
    half
        Whether the checkpoint gets float16 weights.

    Raises
    ------
    UserError
        If the training cannot start, diverges or cannot be written down.
    """
    settings = campaign.generator
    if settings.checkpoint is not None:
        raise UserError(
            f"generator.checkpoint: the campaign samples from {settings.checkpoint} and trains "
            "nothing; remove the line to train a generator of its own."
        )
    processor = Processor.choose(settings.device, settings.precision)
    bounds = f"{settings.max_steps} steps"
    if settings.max_seconds is not None:
        bounds += f" and {settings.max_seconds:g} s"
    with held(folder):
        console.out.print(f"training on {processor}, {bounds} at most")
        trained = _train(campaign, folder)
        console.out.print(f"{trained.steps} steps in {trained.seconds:.0f} s")
        return (trained.halved() if half else trained).save_in(folder)


def _train(campaign: Campaign, folder: Path) -> TrainedGenerator:
    settings = campaign.generator
    maker = TrainMaker.of(campaign)
    dataset = maker.training_set()
    console.note_skipped(dataset.skipped)
    with LearningCurves(folder) as curves, TrainingBar(settings) as bar:
        if curves.note is not None:
            console.note(curves.note)

        def on_progress(entry: dict[str, float]) -> None:
            curves(entry)
            bar(entry)

        def on_resume(state: TrainingState) -> None:
            curves.resume(state)
            bar.resume(state)

        return maker.train_on(
            dataset,
            state=folder / STATE_FILE,
            on_progress=on_progress,
            on_resume=on_resume,
        )


class TrainingBar:
    """A bar on a terminal, a line now and then elsewhere: steps, losses and the time left."""

    def __init__(self, settings: GeneratorSettings) -> None:
        self._max_steps, self._max_seconds = settings.max_steps, settings.max_seconds
        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", style="progress.remaining"),
            TextColumn("{task.description}"),
            console=console.out,
        )
        self._task = self._bar.add_task("", total=self._max_steps, left="")
        self._began = self._last_line = time.monotonic()
        self._first_step, self._earlier = 0, 0.0

    def __enter__(self) -> Self:
        if console.out.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if console.out.is_terminal:
            self._bar.stop()

    def resume(self, state: TrainingState) -> None:
        """Say what the training goes on from, and count from there."""
        self._first_step, self._earlier = state.steps, state.seconds
        spent = f"{state.seconds:.0f} s on {state.processor}"
        console.out.print(f"goes on after step {state.steps}, {spent}")

    def __call__(self, entry: dict[str, float]) -> None:
        """Show an entry of the history."""
        step = int(entry["step"])
        losses = ", ".join(f"{name} {value:.3f}" for name, value in entry.items() if name != "step")
        left = f"{timedelta(seconds=round(self._seconds_left(step)))} left"
        self._bar.update(self._task, completed=step, description=losses, left=left)
        if not console.out.is_terminal and (
            step == self._max_steps or time.monotonic() - self._last_line > console.PLAIN_INTERVAL
        ):
            self._last_line = time.monotonic()
            console.out.print(f"step {step}/{self._max_steps}, {left}: {losses}")

    def _seconds_left(self, step: int) -> float:
        """Time until the last step or the limit of wall time, whichever comes first, s."""
        elapsed = time.monotonic() - self._began
        left = elapsed / (step - self._first_step) * (self._max_steps - step)
        if self._max_seconds is None:
            return left
        return max(0.0, min(left, self._max_seconds - self._earlier - elapsed))
