"""Write learning curves during training: CSV, a figure, TensorBoard."""

from __future__ import annotations

import csv
import time
from typing import TYPE_CHECKING, Any, Self

from matplotlib.figure import Figure

from gan_htvs.core.errors import UserError
from gan_htvs.core.figures import render_figure
from gan_htvs.core.files import report_write_errors, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PANELS = (
    ("critic", ("wasserstein", "gradient_penalty")),
    ("classifier", ("class_real", "class_generated")),
    ("generator", ("coverage",)),
)
"""Panels of the figure; a training has the first and one of the others."""

_COLUMNS = ("step", *(name for _, names in PANELS for name in names))

DRAW_SECONDS = 60.0
"""Minimum time between two drawings of the figure."""


class LearningCurves:
    """Write the history of a training to a folder, entry by entry.

    Use as a context manager and call it with the history of a resumed training, then with every new
    entry (``on_resume`` and ``on_progress`` of :func:`gan_htvs.generator.training.train`).
    ``curves.csv`` is complete at any time; ``curves.png`` is drawn once a minute and at the end;
    TensorBoard event files are written if the package ``tensorboard`` is installed. A resumed
    training writes the curves again, beginning with its history.

    Parameters
    ----------
    folder
        Created if missing.

    Attributes
    ----------
    note
        Reason why TensorBoard files are not written, or None.

    Raises
    ------
    UserError
        If the folder cannot be written to or contains a different ``curves.csv``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.csv, self.png = folder / "curves.csv", folder / "curves.png"
        if self.csv.exists() and not self.csv.read_bytes().startswith(b"step,"):
            raise UserError(f"{self.csv}: is not a learning curve; move it or use another folder.")
        self._entries: list[Mapping[str, float]] = []
        self._events: Any = None
        self._drawn = time.monotonic()
        self._event_writer: Any = None
        self.note: str | None = None
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - optional

            self._event_writer = SummaryWriter
        except ImportError:
            self.note = (
                "TensorBoard files are not written; to add them, pip install 'gan-htvs[curves]'."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._events is not None:
            self._events.close()
        if self._entries:
            self._draw()

    def __call__(self, *entries: Mapping[str, float]) -> None:
        """Add entries: ``step`` and its losses."""
        if not entries:
            return
        is_new = not self._entries
        self._entries += entries
        with report_write_errors(self.csv):
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.csv.open("w" if is_new else "a", encoding="utf-8", newline="") as file:
                columns = [name for name in _COLUMNS if name in entries[0]]
                writer = csv.DictWriter(file, columns)
                if is_new:
                    writer.writeheader()
                writer.writerows(entries)
        if self._event_writer is not None:
            if self._events is None:
                first_step = int(entries[0]["step"])
                self._events = self._event_writer(str(self.folder), purge_step=first_step)
            for entry in entries:
                for name in entry.keys() - {"step"}:
                    self._events.add_scalar(name, entry[name], int(entry["step"]))
        if time.monotonic() - self._drawn > DRAW_SECONDS:
            self._draw()

    def _draw(self) -> None:
        figure = Figure(figsize=(9, 3.6), dpi=120, layout="constrained")
        steps = [entry["step"] for entry in self._entries]
        panels = [(title, names) for title, names in PANELS if names[0] in self._entries[0]]
        for axes, (title, names) in zip(figure.subplots(1, len(panels)), panels, strict=True):
            for name in names:
                axes.plot(steps, [entry[name] for entry in self._entries], label=name, lw=0.8)
            axes.set(title=title, xlabel="generator step", ylabel="loss")
            axes.legend(frameon=False)
        write_atomically(self.png, render_figure(figure))
        self._drawn = time.monotonic()


def latest_entry(folder: Path) -> dict[str, float] | None:
    """Return the last entry of the learning curves in a folder; None if there is none."""
    try:
        with (folder / "curves.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: float(value) for name, value in rows[-1].items() if value}
    except (OSError, IndexError, ValueError, TypeError):  # absent, or the last line is incomplete
        return None


def format_losses(entry: Mapping[str, float]) -> str:
    """Return the losses of an entry as text, such as ``critic 0.123, generator 1.200``."""
    return ", ".join(f"{name} {value:.3f}" for name, value in entry.items() if name != "step")
