"""Terminal output: messages, progress bars and tables."""

from __future__ import annotations

import csv
import sys
import time
from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from rich import box, progress
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gan_htvs.core.document import value_at
from gan_htvs.core.text import INCOMPLETE_MARK, INCOMPLETE_NOTE
from gan_htvs.dataset.skipped import Skipped, source_notes
from gan_htvs.thermodynamics.coverage import all_uncovered, incomplete_hull_warning
from launchers.console.quantities import clock, counted, span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.dataset.relaxed import RelaxedStructures
    from gan_htvs.dataset.training_set import Dataset
    from gan_htvs.results.funnel import Funnel
    from gan_htvs.results.rounds import Rounds
    from launchers.monitor.findings import Finding

PLAIN_WIDTH = 200
"""Line width, characters, if the output is not a terminal."""

out = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
err = Console(stderr=True)

ENDED = ("COMPLETED", "FIZZLED", "DEFUSED")
NEAR_HULL = 0.08
"""Energy above the hull up to which structures are counted as near the hull, eV/atom."""
PLAIN_INTERVAL = 15.0
"""Seconds between progress lines if the output is not a terminal."""
SPEED_PERIOD = 86_400.0
"""Time over which the speed of progress is averaged, s; an item may take hours."""


class Column(NamedTuple):
    """A column of the table of candidates."""

    title: str
    path: str
    min_width: int = 0
    """Terminal width, characters, from which the column is shown."""


FILES_ONLY = sys.maxsize
"""Minimum width of columns that only files have; the table marks such values instead."""

COLUMNS = (
    Column("id", "candidate_id"),
    Column("campaign", "campaign", 180),
    Column("formula", "formula_pretty"),
    Column("atoms", "nsites", 130),
    Column("space group\nat 0.1 A", "symmetry.symbol", 140),
    Column("space group\nat 0.01 A", "tight_symmetry.symbol", 200),
    Column("origin", "origin.proposer", 90),
    Column("round", "origin.round", FILES_ONLY),
    Column("E_hull\neV/atom", "energy_above_hull"),
    Column("E_decomp\neV/atom", "decomposition_energy", 150),
    Column("Pourbaix\neV/atom", "pourbaix.minimum"),
    Column("gap\neV", "band_gap"),
    Column("density\ng/cm^3", "density", FILES_ONLY),
    Column("volume\nA^3/atom", "volume_per_atom", FILES_ONLY),
    Column("magnetization", "total_magnetization", FILES_ONLY),
    Column("incomplete\ngap, eV", "incomplete_band_gap", FILES_ONLY),
    Column("gap reason", "band_gap_reason", FILES_ONLY),
    Column("energy incomplete", "energy_incomplete", FILES_ONLY),
    Column("hull lacks", "uncovered_subsystems", FILES_ONLY),
    Column("same as reference phase", "novelty.reference_match", FILES_ONLY),
    Column("gap method", "band_gap_method", 120),
    Column("stage", "stage"),
    Column("reason", "reason", 160),
)

STAGE_COLUMN = [column.path for column in COLUMNS].index("stage")
"""Columns of the user's properties come before this one."""


def error(message: str) -> None:
    """Print an error message."""
    err.print(f"[bold red]gan-htvs:[/bold red] {escape(message)}", soft_wrap=True)


def note(message: str) -> None:
    """Print a note, to standard error unless standard output is a terminal.

    On a terminal the console of the progress bars must print it, which keeps the bars intact.
    """
    (out if out.is_terminal else err).print(
        f"[yellow]note[/yellow] {escape(message)}", soft_wrap=True
    )


def print_training_set(dataset: Dataset) -> None:
    """Print the size of a training set, and what was skipped and changed of its source."""
    n_compositions = counted(dataset.n_compositions, "composition")
    out.print(f"{counted(len(dataset), 'structure')} of {n_compositions} in the dataset")
    for sentence in dataset.source_notes:
        note(sentence)


class WorkProgress:
    """Progress bars on a terminal, progress lines elsewhere."""

    def __init__(self, console: Console = out) -> None:
        self._console = console
        self._bars = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[note]}"),
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
            speed_estimate_period=SPEED_PERIOD,
        )
        self._tasks: dict[str, progress.TaskID] = {}
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(
        self,
        label: str,
        done: int,
        total: int,
        note: str = "",
        *,
        seconds_left: float | None = None,
    ) -> None:
        """Show that ``done`` of ``total`` items are done; a note is shown at once.

        ``seconds_left`` replaces the remaining time that follows from the items.
        """
        self._show({label: (done, total, note)}, at_once=bool(note), seconds_left=seconds_left)

    def show_jobs(self, states: Counter[tuple[str, str]]) -> None:
        """Show the progress of jobs by step."""
        from gan_htvs.core.stages import Step

        steps = {}
        for step in Step:
            counts = Counter({state: n for (name, state), n in states.items() if name == step})
            running, failed = counts["RUNNING"], counts["FIZZLED"]
            notes = [f"{running} running"] if running else []
            notes += [f"[red]{failed} failed[/red]"] if failed else []
            if counts:
                ended = sum(counts[state] for state in ENDED)
                steps[str(step)] = ended, counts.total(), " ".join(notes)
        self._show(steps)

    def _show(
        self,
        items: Mapping[str, tuple[int, int, str]],
        *,
        at_once: bool = False,
        seconds_left: float | None = None,
    ) -> None:
        """Update the bars, or print a line for finished items and, at intervals, the others."""
        self._bars.start()
        lines, unfinished = [], []
        for label, (done, total, note) in items.items():
            if label not in self._tasks:
                self._tasks[label] = self._bars.add_task(label, total=None, note="", left="")
            task = self._bars.tasks[self._tasks[label]]
            was_finished = task.finished
            self._bars.update(task.id, completed=done, total=total, note=note)
            text = f"{label} {done}/{total}" + (f", {note}" if note else "")
            seconds = task.time_remaining if seconds_left is None else seconds_left
            left = ""
            if not task.finished and seconds is not None:
                left = f"{span(timedelta(seconds=seconds))} left"
                text += f", {left}"
            self._bars.update(task.id, left=left)
            if not task.finished:
                unfinished.append(text)
            elif not was_finished:
                lines.append(text)
        is_due = at_once or time.monotonic() - self._last_line > PLAIN_INTERVAL
        if unfinished and is_due:
            lines.append("; ".join(unfinished))
        if self._bars.disable and lines:
            self._last_line = time.monotonic()
            self._console.print("\n".join(lines))


Cell = str | int | float | datetime | None


class Grid(NamedTuple):
    """A table; floats are shown with one decimal, None as a dash."""

    title: str | None
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    """An empty row separates sections."""
    n_more: int = 0
    """Number of omitted rows."""


def is_number(cell: Cell) -> bool:
    """Return whether a cell belongs to a column of numbers."""
    return cell is None or isinstance(cell, int | float)


def cell_text(cell: Cell, digits: int = 1) -> str:
    """Return the text of a cell; floats have ``digits`` decimals."""
    match cell:
        case None:
            return "-"
        case int():
            return f"{cell:,}"
        case float():
            return f"{cell:z,.{digits}f}"
        case datetime():
            return clock(cell)
    return cell


def grid_table(grid: Grid) -> Table:
    """Return a table for the terminal."""
    table = Table(title=grid.title, title_justify="left", box=box.SIMPLE_HEAD)
    for name, cell in zip(grid.head, next(filter(None, grid.rows), grid.head), strict=True):
        table.add_column(
            name,
            justify="right" if is_number(cell) else "left",
            overflow="fold",
            no_wrap=isinstance(cell, datetime),
        )
    for row in grid.rows:
        if row:
            table.add_row(*map(escape, map(cell_text, row)))
        else:
            table.add_section()
    if grid.n_more:
        table.caption = f"and {grid.n_more} more; use --json for all"
    return table


def rounds_grid(rounds: Rounds) -> Grid:
    """Return the table of the rounds of sampling."""
    head = ("round", "training structures", "sampled", "survived the prescreen", "new crystals")
    rows = [
        (one.number, one.n_training, one.n_sampled, one.n_survivors, one.n_new)
        for one in rounds.counts
    ]
    return Grid("Rounds", head, rows)


def print_candidates(rows: Sequence[Mapping[str, Any]], n_all: int) -> None:
    """Print candidates as a table that fits the terminal; ``n_all`` were searched."""
    if not n_all:
        out.print("No candidates. Run a campaign (`gan-htvs demo`) or `gan-htvs build` first.")
        return
    if not rows:
        out.print(f"No candidate matches these filters ({n_all:,} searched).")
        return
    columns = [column for column in _columns(rows) if column.min_width <= out.width]
    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column.title, no_wrap=column.path not in ("band_gap_method", "reason"))
    for row in rows:
        table.add_row(*(escape(marked(row, column.path, digits=3)) for column in columns))
    out.print(table)
    hidden = [
        column.title.replace("\n", " ")
        for column in COLUMNS
        if out.width < column.min_width < FILES_ONLY
    ]
    if hidden:
        out.print(
            f"A wider terminal also shows {', '.join(hidden)}; --format csv writes all columns."
        )
    if (warning := incomplete_hull_warning(all_uncovered(rows))) is not None:
        note(warning)
    if any(map(is_incomplete, rows)):
        out.print(escape(INCOMPLETE_NOTE), soft_wrap=True)


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return the columns of candidates, with one for each of the user's properties."""
    names = dict.fromkeys(name for row in rows for name in row.get("properties") or ())
    own = [Column(name.replace("_", "\n"), f"properties.{name}.value") for name in names]
    return [*COLUMNS[:STAGE_COLUMN], *own, *COLUMNS[STAGE_COLUMN:]]


def write_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    """Write candidates as CSV to standard output."""
    writer = csv.writer(sys.stdout)
    columns = _columns(rows)
    writer.writerow([column.path for column in columns])
    for row in rows:
        values = [value_at(row, column.path) for column in columns]
        writer.writerow([", ".join(v) if isinstance(v, list) else v for v in values])


def print_dataset(relaxed: RelaxedStructures, path: Path) -> None:
    """Print the size of a relaxed dataset, skipped structures, and how to use the file."""
    compositions = {structure.composition.formula for structure in relaxed.structures}
    energies = sorted(relaxed.energies_above_hull)
    near = sum(energy <= NEAR_HULL for energy in energies)
    out.print(
        f"[bold]{len(energies)} structures[/bold] of {len(compositions)} compositions, "
        f"{near} of them within {NEAR_HULL} eV/atom of the hull ({relaxed.level_of_theory})"
    )
    out.print(f"skipped: {escape(str(relaxed.skipped)) or 'none'}", soft_wrap=True)
    for sentence in source_notes(Skipped(), relaxed.notes):
        note(sentence)
    out.print(f"wrote {path}; use it as [bold]dataset: {{source: array, path: {path}}}[/bold]")


def print_findings(findings: Sequence[Finding]) -> None:
    """Print findings, and their number by severity."""
    out.print(findings_table(findings))
    counts = Counter(finding.severity for finding in findings)
    out.print(", ".join(f"{n} {severity}" for severity, n in counts.most_common()))


def findings_table(findings: Sequence[Finding]) -> Table:
    """Return a table with one row per finding, including its repair and its fix."""
    rows = []
    for finding in findings:
        repair = f"\nrepaired: {finding.repair}" if finding.repair else ""
        fix = f"\nfix: {finding.fix}" if finding.fix else ""
        rows.append((finding.where, finding.severity, f"{finding.what}{repair}{fix}"))
    table = grid_table(Grid(None, ("where", "severity", "finding"), rows))
    styles = {"warning": "yellow", "failure": "bold red", "skipped": "dim"}
    for row, finding in zip(table.rows, findings, strict=True):
        row.style = styles.get(finding.severity)
    return table


def is_incomplete(row: Mapping[str, Any]) -> bool:
    """Return whether the gap or energy of a candidate lacks magnetic orderings."""
    return any(row.get(name) is not None for name in ("incomplete_band_gap", "energy_incomplete"))


def marked(row: Mapping[str, Any], path: str, digits: int) -> str:
    """Return the text of a candidate's value, with a mark if it lacks magnetic orderings.

    An incomplete band gap replaces a missing complete one.
    """
    value = value_at(row, path)
    is_marked = path == "energy_above_hull" and value is not None and row.get("energy_incomplete")
    if path == "band_gap" and row.get("incomplete_band_gap") is not None:
        value, is_marked = row["incomplete_band_gap"], True
    return cell_text(value, digits) + (INCOMPLETE_MARK if is_marked else "")


def funnel_table(campaign: Campaign, funnel: Funnel) -> Table:
    """Return a table of candidates per stage, measured and published."""
    gaps = campaign.engines.band_gap.name if campaign.computes_gaps else "no gaps"
    level = f"measured: {campaign.engines.energy.name}, {gaps}"
    columns = funnel.columns
    rows: list[Sequence[Cell]] = [(name, *values) for name, values in funnel.setting_rows]
    rows.append(())
    for stage, *counts in zip(funnel.stages, *columns.values(), strict=True):
        rows.append((stage, *counts))
    return grid_table(Grid(f"Funnel of {campaign.name} ({level})", ("stage", *columns), rows))
