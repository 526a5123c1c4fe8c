"""Learning curves of a training, while it runs: CSV, a figure, TensorBoard."""

from __future__ import annotations

import csv
import io
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from matplotlib.figure import Figure

from gan_htvs.errors import UserError
from gan_htvs.figures import rendered
from gan_htvs.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gan_htvs.generator.state import TrainingState

PANELS = (
    ("critic", ("wasserstein", "gradient_penalty")),
    ("classifier", ("class_real", "class_generated")),
    ("generator", ("coverage",)),
)
"""What shares a panel of the figure; a training has the first and one of the others."""

_COLUMNS = ("step", *(name for _, names in PANELS for name in names))

DRAW_SECONDS = 60.0
"""Least time between two drawings of the figure."""


class LearningCurves:
    """Write every entry of a training's history to a folder as it comes.

    Use as a context manager, as ``on_progress`` of :func:`gan_htvs.generator.training.train`, and
    :meth:`resume` as its ``on_resume``.
    ``curves.csv`` is complete at any time; ``curves.png`` is drawn once a minute and at the end;
    event files for TensorBoard are written if the package ``tensorboard`` is installed. After an
    interruption, entries of steps that are taken again replace the old ones.

    Parameters
    ----------
    folder
        Created if missing.

    Attributes
    ----------
    note
        Why there are no TensorBoard files, or None.

    Raises
    ------
    UserError
        If the folder cannot be written to, or holds another ``curves.csv``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.csv, self.png = folder / "curves.csv", folder / "curves.png"
        self._entries = _read(self.csv)
        self._events: Any = None
        self._drawn = time.monotonic()
        self.note: str | None = None
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - optional
        except ImportError:
            self._event_writer = None
            self.note = (
                "TensorBoard files are not written; pip install 'gan-htvs[curves]' adds them."
            )
        else:
            self._event_writer = SummaryWriter

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._events is not None:
            self._events.close()
        if self._entries:
            self._draw()

    def __call__(self, entry: Mapping[str, float]) -> None:
        """Add an entry: ``step`` and its losses."""
        step = entry["step"]
        # A curve of other losses belongs to a training that another one has replaced.
        kept = [old for old in self._entries if old["step"] < step and old.keys() == entry.keys()]
        again = len(kept) < len(self._entries)
        self._entries = [*kept, dict(entry)]
        if again or not self.csv.exists():
            write_atomically(self.csv, _as_csv(self._entries, header=True).encode())
        else:
            try:
                with self.csv.open("a", encoding="utf-8", newline="") as file:
                    file.write(_as_csv(self._entries[-1:], header=False))
            except OSError as error:
                raise UserError(
                    f"{self.csv}: cannot be written: {error.strerror}; make room or choose a "
                    "writable folder."
                ) from error
        self._add_event(entry)
        if time.monotonic() - self._drawn > DRAW_SECONDS:
            self._draw()

    def resume(self, state: TrainingState) -> None:
        """Begin with the history that a training goes on from, where the folder is a new one."""
        if self._entries or not state.history:
            return
        self._entries = [dict(entry) for entry in state.history]
        write_atomically(self.csv, _as_csv(self._entries, header=True).encode())
        for entry in self._entries:
            self._add_event(entry)

    def _add_event(self, entry: Mapping[str, float]) -> None:
        if self._event_writer is None:
            return
        step = int(entry["step"])
        if self._events is None:
            self._events = self._event_writer(str(self.folder), purge_step=step)
        for name, value in entry.items():
            if name != "step":
                self._events.add_scalar(name, value, step)

    def _draw(self) -> None:
        figure = Figure(figsize=(9, 3.6), dpi=120, layout="constrained")
        steps = [entry["step"] for entry in self._entries]
        panels = [(title, names) for title, names in PANELS if names[0] in self._entries[0]]
        for axes, (title, names) in zip(figure.subplots(1, len(panels)), panels, strict=True):
            for name in names:
                axes.plot(steps, [entry[name] for entry in self._entries], label=name, lw=0.8)
            axes.set(title=title, xlabel="generator step", ylabel="loss")
            axes.legend(frameon=False)
        write_atomically(self.png, rendered(figure))
        self._drawn = time.monotonic()


def _as_csv(entries: Sequence[Mapping[str, float]], *, header: bool) -> str:
    text = io.StringIO()
    columns = [name for name in _COLUMNS if name in entries[0]]
    writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(entries)
    return text.getvalue()


def _read(path: Path) -> list[dict[str, float]]:
    """Read a curve; the line that a kill cut short is taken out of the file."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    rows = csv.DictReader(io.StringIO(whole))
    if set(rows.fieldnames or ()) in [{"step", *PANELS[0][1], *names} for _, names in PANELS[1:]]:
        with suppress(TypeError, ValueError):
            entries = [{name: float(value) for name, value in row.items()} for row in rows]
            if whole != text:
                write_atomically(path, whole.encode())
            return entries
    raise UserError(f"{path}: holds no learning curve; move it or name another folder.")
