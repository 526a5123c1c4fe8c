"""Files of an evaluation: report, samples and figure."""

from __future__ import annotations

import csv
import io
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from gan_htvs.core.figures import COLORS, PUBLISHED_STYLE, render_figure
from gan_htvs.core.files import write_atomically
from gan_htvs.core.hashing import content_hash
from gan_htvs.core.versions import versions
from gan_htvs.evaluation.evaluation_documents import (
    PUBLISHED,
    PUBLISHED_CHEMSYS,
    Evaluation,
    Outcome,
    Report,
    Sample,
)
from gan_htvs.evaluation.sample_sets import SampleSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.core.statistics import Share
    from gan_htvs.dataset.training_set import Dataset
    from gan_htvs.evaluation.rediscovery_documents import Rediscovery, RediscoveryTargets
    from gan_htvs.generator.checkpoint import TrainedGenerator

JSON_FILE, CSV_FILE, FIGURE_FILE = "evaluation.json", "samples.csv", "evaluation.png"

_CSV_FIELDS = tuple(name for name in Sample.model_fields if name != "structure")

WINDOW = (-0.05, 0.5)
"""Range of the energy axis, eV/atom above the hull."""

GROUP_WIDTH = 0.8
"""Width of a group of bars; groups are 1 apart."""

BEFORE_RELAXATION = ("matched", "valid_before_declash", "valid", "unique", "novel")
"""Shares in the figure if nothing was relaxed."""


def make_report(
    campaign: Campaign,
    source: TrainedGenerator | SampleSet,
    dataset: Dataset,
    evaluations: Sequence[Evaluation],
    *,
    targets: RediscoveryTargets | None = None,
    rediscoveries: Sequence[Rediscovery] = (),
) -> Report:
    """Build the report of evaluations.

    Parameters
    ----------
    campaign, source, dataset
        Campaign with the evaluated compositions, trained generator or given structures, and
        dataset before its split.
    evaluations
        One for each proposer, that of ``source`` first.
    targets, rediscoveries
        Crystals to be found, and those found by each proposer.
    """
    same_system = set(campaign.chemical_system.elements) == set(PUBLISHED_CHEMSYS.split("-"))
    options = [(e.proposer, e.n_samples, e.n_relaxed, e.seed) for e in evaluations]
    sought = targets and (targets.window, [target.structure for target in targets.targets])
    trained = None if isinstance(source, SampleSet) else source
    return Report(
        campaign=campaign.name,
        checkpoint=trained and trained.sha256,
        structures=content_hash(source.structures) if isinstance(source, SampleSet) else None,
        steps=trained and trained.steps,
        training_seconds=trained and trained.seconds,
        dataset=dataset.hash,
        held_out=campaign.dataset.held_out,
        settings=content_hash("evaluation", campaign, dataset.hash, options, sought),
        versions=versions(),
        evaluations=list(evaluations),
        published=PUBLISHED if same_system else (),
        targets=targets,
        rediscoveries=list(rediscoveries),
    )


def write_report(report: Report, directory: Path) -> list[Path]:
    """Write the report, its samples and its figure.

    Returns
    -------
    Paths of ``evaluation.json``, ``samples.csv`` and ``evaluation.png``.

    Raises
    ------
    UserError
        If the directory is not writable.
    """
    contents = {
        JSON_FILE: report.model_dump_json(indent=1).encode(),
        CSV_FILE: _samples_csv(report.evaluations).encode(),
        FIGURE_FILE: render_figure(draw_report(report)),
    }
    for name, data in contents.items():
        write_atomically(directory / name, data)
    return [directory / name for name in contents]


def _samples_csv(evaluations: Sequence[Evaluation]) -> str:
    """Return a CSV table with one line for each sample; lists are separated by spaces."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("proposer", *_CSV_FIELDS))
    for evaluation in evaluations:
        for sample in evaluation.samples:
            values = [getattr(sample, name) for name in _CSV_FIELDS]
            plain = [" ".join(map(str, v)) if isinstance(v, tuple) else v for v in values]
            writer.writerow((evaluation.proposer, *plain))
    return text.getvalue()


def draw_report(report: Report) -> Figure:
    """Draw a report.

    Left: cumulative distribution of the energy above hull over all structures sent to relaxation;
    unsound structures have no energy. Middle: shares of stable and S.U.N. structures with 95 %
    intervals, for Mg-Mn-O also the published share. Right: S.U.N. per hour of relaxation. If
    nothing was relaxed, the figure has the shares before relaxation.
    """
    figure = Figure(figsize=(13, 4.2), dpi=120, layout="constrained")
    if report.is_relaxed:
        distribution, shares, rates = figure.subplots(1, 3)
        _distribution(distribution, report.evaluations)
        _shares(shares, report)
        _rates(rates, report.evaluations)
    else:
        _before_relaxation(figure.subplots(), report.evaluations)
    figure.suptitle(f"{report.campaign}: {report.source}")
    return figure


def _distribution(axes: Axes, evaluations: Sequence[Evaluation]) -> None:
    for evaluation, color in zip(evaluations, cycle(COLORS), strict=False):
        relaxed = [s for s in evaluation.samples if s.outcome is not Outcome.NOT_RELAXED]
        energies = [
            np.inf if s.decomposition_energy is None else s.decomposition_energy for s in relaxed
        ]
        if relaxed:
            label = f"{evaluation.proposer} (n = {len(relaxed)})"
            axes.ecdf(energies, color=color, label=label)
    for threshold in evaluations[0].thresholds:
        axes.axvline(threshold, color="black", linewidth=0.6, linestyle=":")
    axes.set(
        xlim=WINDOW,
        ylim=(0, 1),
        xlabel="decomposition energy after relaxation, eV/atom",
        ylabel="share of structures relaxed",
        title=f"stability ({evaluations[0].level_of_theory})",
    )
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(frameon=False, fontsize="small")


def _shares(axes: Axes, report: Report) -> None:
    thresholds = report.evaluations[0].thresholds
    bars = len(report.evaluations) + bool(report.published)
    width = GROUP_WIDTH / bars
    for evaluation, color, at in _groups(axes, report.evaluations, _within(thresholds), bars=bars):
        stable = [t.stable for t in evaluation.overall.thresholds]
        sun = [t.sun for t in evaluation.overall.thresholds]
        _bars(axes, at, stable, width, aside=-0.2, color=color, alpha=0.35)
        _bars(axes, at, sun, width, aside=0.2, color=color)
    largest = max((published.stable.n for published in report.published), default=0)
    for published in report.published:
        if published.stable.n == largest and published.threshold in thresholds:
            at = np.array([thresholds.index(published.threshold) + (bars - 1) / 2 * width])
            _bars(axes, at, [published.stable], width, **PUBLISHED_STYLE)
    axes.set(
        xlabel="eV/atom above hull",
        ylabel="share of structures relaxed, %",
        title="share with 95 % interval",
    )
    axes.set_ylim(bottom=0)
    handles = [
        Patch(color="black", alpha=0.35, label="stable"),
        Patch(color="black", label="stable, unique, novel"),
    ]
    for paper in report.published[:1]:
        label = f"published: {paper.chemsys}, stable\n{paper.source}\n{paper.level_of_theory}"
        handles.append(Patch(**PUBLISHED_STYLE, label=label))
    axes.legend(handles=handles, frameon=False, fontsize="small")


def _rates(axes: Axes, evaluations: Sequence[Evaluation]) -> None:
    width = GROUP_WIDTH / len(evaluations)
    for evaluation, color, at in _groups(axes, evaluations, _within(evaluations[0].thresholds)):
        rates = [t.sun_per_cpu_hour or 0.0 for t in evaluation.overall.thresholds]
        axes.bar(at, rates, width, color=color, label=evaluation.proposer)
    axes.set(xlabel="eV/atom above hull", ylabel="per processor hour", title="S.U.N.")
    axes.legend(frameon=False, fontsize="small")


def _before_relaxation(axes: Axes, evaluations: Sequence[Evaluation]) -> None:
    width = GROUP_WIDTH / len(evaluations)
    titles = [name.replace("_", " ") for name in BEFORE_RELAXATION]
    for evaluation, color, at in _groups(axes, evaluations, titles):
        shares = [getattr(evaluation.overall, name) for name in BEFORE_RELAXATION]
        _bars(axes, at, shares, width, color=color, label=evaluation.proposer)
    axes.set(ylim=(0, 100), ylabel="share, %", title="before relaxation, with 95 % interval")
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def _within(thresholds: Sequence[float]) -> list[str]:
    return [f"<= {threshold:g}" for threshold in thresholds]


def _groups(
    axes: Axes, evaluations: Sequence[Evaluation], labels: Sequence[str], bars: int | None = None
) -> Iterator[tuple[Evaluation, str, NDArray[np.floating]]]:
    """Label the groups, and yield each evaluation, its color and the centers of its bars, (m,).

    Each group has space for ``bars`` bars; default: one for each evaluation.
    """
    axes.set_xticks(range(len(labels)), labels)
    bars = bars or len(evaluations)
    for n, (evaluation, color) in enumerate(zip(evaluations, cycle(COLORS), strict=False)):
        yield evaluation, color, np.arange(len(labels)) + (n - (bars - 1) / 2) * GROUP_WIDTH / bars


def _bars(
    axes: Axes,
    at: NDArray[np.floating],
    shares: Sequence[Share],
    width: float,
    *,
    aside: float = 0.0,
    **style: Any,
) -> None:
    """Draw bars (m,) at ``at``, with intervals shifted by ``aside`` bar widths."""
    values = np.array([share.value or 0.0 for share in shares])
    bounds = np.array([share.interval or (0.0, 0.0) for share in shares]).T
    axes.bar(at, 100 * values, width, **style)
    axes.errorbar(
        at + aside * width,
        100 * values,
        100 * np.abs(bounds - values),
        fmt="none",
        ecolor="black",
        elinewidth=0.7,
        capsize=1.5,
    )
