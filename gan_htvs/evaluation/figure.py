"""An evaluation as a picture: how stable, how much of it new, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from gan_htvs.evaluation.documents import Evaluation, Measures, Outcome, Report
from gan_htvs.figures import COLOURS, GREY, PUBLISHED_HATCH, rendered

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from gan_htvs.share import Share

WINDOW = (-0.05, 0.5)
"""Energies above the hull that are drawn, eV/atom."""

GROUP_WIDTH = 0.8
"""Of the bars that stand together; groups are 1 apart."""

BEFORE_RELAXATION = ("matched", "valid_before_push", "valid", "unique", "novel")
"""Shares that are drawn where nothing was relaxed."""


def draw_report(report: Report) -> bytes:
    """Draw a report as a PNG.

    Left: distribution of the energy above the hull over all structures sent to relaxation, those
    with holes or without convergence never arriving. Middle: stable share with its 95 % interval,
    beside the published one. Right: S.U.N. per hour of relaxation. Where nothing was relaxed:
    shares before relaxation, each of its own denominator.
    """
    figure = Figure(figsize=(13, 4.2), dpi=120, layout="constrained")
    if report.is_relaxed:
        distribution, shares, rates = figure.subplots(1, 3)
        _distribution(distribution, report.evaluations)
        _shares(shares, report)
        _rates(rates, report.evaluations)
    else:
        _before_relaxation(figure.subplots(), report.evaluations)
    figure.suptitle(f"{report.campaign}: checkpoint {report.checkpoint[:12]}")
    return rendered(figure)


def _distribution(axes: Axes, evaluations: Sequence[Evaluation]) -> None:
    for evaluation, colour in zip(evaluations, _colours(evaluations), strict=True):
        energies = np.sort(
            [s.energy_above_hull for s in evaluation.samples if s.fate is Outcome.SOUND]
        ).astype(float)
        n = evaluation.overall.n_relaxed
        if n:
            axes.step(
                np.concatenate([[WINDOW[0]], energies, [WINDOW[1]]]),
                100 * np.concatenate([np.arange(len(energies) + 1), [len(energies)]]) / n,
                where="post",
                color=colour,
                label=f"{evaluation.proposer} (n = {n})",
            )
    for threshold in evaluations[0].thresholds:
        axes.axvline(threshold, color="black", linewidth=0.6, linestyle=":")
    axes.set(
        xlim=WINDOW,
        ylim=(0, 100),
        xlabel="energy above hull after relaxation, eV/atom",
        ylabel="share of structures relaxed, %",
        title=f"stability ({evaluations[0].level_of_theory})",
    )
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize="small")


def _shares(axes: Axes, report: Report) -> None:
    thresholds = report.evaluations[0].thresholds
    groups = [(f"<= {threshold:g}", threshold) for threshold in thresholds]
    bars = len(report.evaluations) + 1
    width = GROUP_WIDTH / bars
    for evaluation, colour, at in _places(report.evaluations, len(groups), width, bars):
        overall = evaluation.overall
        stable, sun = ([t.stable for t in overall.thresholds], [t.sun for t in overall.thresholds])
        _bars(axes, at, stable, width, colour, alpha=0.35, aside=-0.2)
        _bars(axes, at, sun, width, colour, aside=0.2)
    published = {p.threshold: p for p in report.published if p.stable.n == _largest(report)}
    for group, threshold in enumerate(thresholds):
        if threshold in published:
            at = np.array([group + (bars - 1) / 2 * width])
            _bars(
                axes,
                at,
                [published[threshold].stable],
                width,
                GREY,
                alpha=0.6,
                hatch=PUBLISHED_HATCH,
            )
    kim = report.published[0]
    axes.bar(0, 0, color="black", alpha=0.35, label="stable")
    axes.bar(0, 0, color="black", label="stable, unique, novel")
    axes.bar(
        0,
        0,
        color=GREY,
        alpha=0.6,
        hatch=PUBLISHED_HATCH,
        label=f"published: {kim.chemsys}, stable\n{kim.source}\n{kim.level_of_theory}",
    )
    axes.set(
        xlabel="eV/atom above hull",
        ylabel="share of structures relaxed, %",
        title="share with 95 % interval",
    )
    axes.set_xticks(range(len(groups)), [label for label, _ in groups])
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize="small")


def _before_relaxation(axes: Axes, evaluations: Sequence[Evaluation]) -> None:
    bars, groups = len(evaluations), len(BEFORE_RELAXATION)
    width = GROUP_WIDTH / bars
    for evaluation, colour, at in _places(evaluations, groups, width, bars):
        shares = [getattr(evaluation.overall, name) for name in BEFORE_RELAXATION]
        _bars(axes, at, shares, width, colour, label=evaluation.proposer)
    axes.set(ylim=(0, 100), ylabel="share, %", title="before relaxation, with 95 % interval")
    titles = [name.replace("_", " ") for name in BEFORE_RELAXATION]
    axes.set_xticks(range(len(titles)), titles)
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def _places(
    evaluations: Sequence[Evaluation], groups: int, width: float, bars: int
) -> Iterator[tuple[Evaluation, str, NDArray[np.floating]]]:
    """Give each its colour and the middles (groups,) of its bars, the n-th of ``bars`` in each."""
    colours = _colours(evaluations)
    for n, (evaluation, colour) in enumerate(zip(evaluations, colours, strict=True)):
        yield evaluation, colour, np.arange(groups) + (n - (bars - 1) / 2) * width


def _bars(
    axes: Axes,
    at: NDArray[np.floating],
    shares: Sequence[Share],
    width: float,
    colour: str,
    *,
    alpha: float = 1.0,
    aside: float = 0.0,
    hatch: str | None = None,
    label: str | None = None,
) -> None:
    """Draw bars (m,) at positions ``at``, their intervals ``aside`` of the middle."""
    values = np.array([share.value or 0.0 for share in shares])
    bounds = np.array([share.interval or (0.0, 0.0) for share in shares]).T
    axes.bar(at, 100 * values, width, color=colour, alpha=alpha, hatch=hatch, label=label)
    axes.errorbar(
        at + aside * width,
        100 * values,
        100 * np.abs(bounds - values),
        fmt="none",
        ecolor="black",
        elinewidth=0.7,
        capsize=1.5,
    )


def _rates(axes: Axes, evaluations: Sequence[Evaluation]) -> None:
    thresholds = evaluations[0].thresholds
    width = 0.8 / len(evaluations)
    for position, (evaluation, colour) in enumerate(
        zip(evaluations, _colours(evaluations), strict=True)
    ):
        at = np.arange(len(thresholds)) + (position - (len(evaluations) - 1) / 2) * width
        axes.bar(at, _sun_rates(evaluation.overall), width, color=colour, label=evaluation.proposer)
    axes.set(xlabel="eV/atom above hull", ylabel="per processor hour", title="S.U.N. found")
    axes.set_xticks(range(len(thresholds)), [f"<= {threshold:g}" for threshold in thresholds])
    axes.legend(frameon=False, fontsize="small")


def _sun_rates(measures: Measures) -> list[float]:
    return [at.sun_per_cpu_hour or 0.0 for at in measures.thresholds]


def _largest(report: Report) -> int:
    return max(published.stable.n for published in report.published)


def _colours(evaluations: Sequence[Evaluation]) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(len(evaluations))]
