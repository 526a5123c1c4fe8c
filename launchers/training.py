"""Training outside a campaign's run, with a bar that shows losses and the remaining time."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from flows.train import dataset_of, train_on
from gan_htvs.errors import UserError
from gan_htvs.files import held
from gan_htvs.generator.curves import LearningCurves
from gan_htvs.generator.processor import Processor
from launchers import console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gan_htvs.campaign import Campaign
    from gan_htvs.generator.checkpoint import TrainedGenerator

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
    dataset = dataset_of(campaign)
    console.note_skipped(dataset.skipped)
    bar = _bar(settings.max_steps, settings.max_seconds)
    with LearningCurves(folder) as curves, bar as show:
        if curves.note is not None:
            console.note(curves.note)

        def both(entry: dict[str, float]) -> None:
            curves(entry)
            show(entry)

        return train_on(dataset, campaign, state=folder / STATE_FILE, on_progress=both)


@contextmanager
def _bar(max_steps: int, max_seconds: float | None) -> Iterator[Callable[[dict[str, float]], None]]:
    """Draw a bar on a terminal, a line now and then elsewhere."""
    bar = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        _TimeLeft(max_seconds),
        TextColumn("{task.description}"),
        console=console.out,
    )
    task = bar.add_task("", total=max_steps)
    last_line = time.monotonic()

    def show(entry: dict[str, float]) -> None:
        nonlocal last_line
        step = int(entry["step"])
        losses = ", ".join(f"{name} {value:.3f}" for name, value in entry.items() if name != "step")
        bar.update(task, completed=step, description=losses)
        if not console.out.is_terminal and (
            step == max_steps or time.monotonic() - last_line > console.PLAIN_INTERVAL
        ):
            last_line = time.monotonic()
            left = _seconds_left(bar.tasks[0], max_seconds)
            eta = "" if left is None else f", {left:.0f} s left"
            console.out.print(f"step {step}/{max_steps}{eta}: {losses}")

    if not console.out.is_terminal:
        yield show
        return
    with bar:
        yield show


class _TimeLeft(ProgressColumn):
    """The time until the last step or the limit of wall time, whichever comes first."""

    def __init__(self, max_seconds: float | None) -> None:
        super().__init__()
        self.max_seconds = max_seconds

    def render(self, task: Task) -> Text:
        left = _seconds_left(task, self.max_seconds)
        shown = "-:--:--" if left is None else str(timedelta(seconds=int(left)))
        return Text(shown, style="progress.remaining")


def _seconds_left(task: Task, max_seconds: float | None) -> float | None:
    left = task.time_remaining
    if left is None or max_seconds is None or task.elapsed is None:
        return left
    return max(0.0, min(left, max_seconds - task.elapsed))
