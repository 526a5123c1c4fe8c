"""Figures of a prescreen: relaxations by outcome, counts by step, and one relaxation in detail."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gan_htvs.core.stages import ScreeningStep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gan_htvs.core.candidate import Curve
    from gan_htvs.prescreen.summary import PrescreenSummary

COLORS: dict[ScreeningStep | None, str] = {
    ScreeningStep.VALIDITY: "#555555",
    ScreeningStep.DUPLICATE: "#000000",
    ScreeningStep.RELAXATION: "#999999",
    ScreeningStep.GEOMETRY: "#d55e00",
    ScreeningStep.STOPPING: "#e69f00",
    ScreeningStep.WINDOW: "#0072b2",
    ScreeningStep.RELAXED_DUPLICATE: "#56b4e9",
    ScreeningStep.CONFIRMATION: "#cc79a7",
    None: "#009e73",
}
"""Colors by step: Okabe and Ito, distinct for color-blind readers, and grays."""

LINEAR = 0.2
"""Energy above hull below which the axis is linear, above logarithmic, eV/atom."""

TICKS = (-1, -0.5, -0.2, -0.1, 0, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
"""Ticks of that axis, eV/atom."""


class EnergyTrajectory(NamedTuple):
    """Energies of a relaxation, and the step that rejected it."""

    rejected_at: ScreeningStep | None
    above_hull: Sequence[float]
    """Energies of all steps, from the start, eV/atom."""


def draw_prescreen(
    summary: PrescreenSummary, trajectories: Sequence[EnergyTrajectory], window: float
) -> Figure | None:
    """Draw relaxations, colored by step, and a bar for each step.

    Parameters
    ----------
    summary
        Summary of the campaign.
    trajectories
        Some relaxations of the campaign.
    window
        Largest energy above hull of survivors, eV/atom.

    Returns
    -------
    The figure; None if nothing was prescreened.
    """
    if not summary.total.n:
        return None
    figure = Figure(figsize=(12, 4.6), dpi=120, layout="constrained")
    curves, bars = figure.subplots(1, 2)
    for trajectory in trajectories:
        curves.plot(
            range(len(trajectory.above_hull)),
            trajectory.above_hull,
            color=COLORS[trajectory.rejected_at],
            linewidth=0.8,
            alpha=0.6,
        )
        curves.plot(
            len(trajectory.above_hull) - 1,
            trajectory.above_hull[-1],
            ".",
            color=COLORS[trajectory.rejected_at],
            markersize=4,
        )
    curves.axhline(window, color="black", linewidth=1, linestyle="--")
    curves.set_yscale("symlog", linthresh=LINEAR)
    lowest = min((min(trajectory.above_hull) for trajectory in trajectories), default=0.0)
    highest = max((max(trajectory.above_hull) for trajectory in trajectories), default=1.0)
    ticks = [tick for tick in TICKS if min(lowest, 0) <= tick <= highest]
    curves.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    curves.set_yticks([], minor=True)
    curves.set_ylim(min(lowest, 0) - 0.05, 1.2 * max(highest, window))
    curves.set(xlabel="relaxation step", ylabel="energy above hull, eV/atom")
    curves.set_title(f"{len(trajectories)} of the relaxations", fontsize=9)
    drawn = {trajectory.rejected_at for trajectory in trajectories}
    kinds = [part for part in summary.parts if part.rejected_at in drawn]
    handles = [Line2D([], [], color=COLORS[part.rejected_at], label=part.name) for part in kinds]
    if handles:
        curves.legend(handles=handles, fontsize=7)
    bars.barh(
        [part.name for part in summary.parts],
        [part.n for part in summary.parts],
        color=[COLORS[part.rejected_at] for part in summary.parts],
    )
    for y, part in enumerate(summary.parts):
        label = f" {part.n:,}" + (f", {part.cpu_seconds:,.0f} s" if part.cpu_seconds else "")
        bars.annotate(label, (part.n, y), va="center", fontsize=8)
    bars.set(xlabel="structures, and their processor time")
    bars.xaxis.get_major_locator().set_params(integer=True)
    bars.set_xlim(0, 1.25 * max(part.n for part in summary.parts))
    bars.invert_yaxis()
    return figure


def draw_relaxation(curve: Curve, title: str) -> Figure:
    """Draw energy, largest force and volume of one relaxation against its steps."""
    figure = Figure(figsize=(6, 7), dpi=120, layout="constrained")
    energy, force, volume = figure.subplots(3, 1, sharex=True)
    for axes, values, name in (
        (energy, curve.energies, "energy, eV/atom"),
        (force, curve.max_forces, "largest force, eV/A"),
        (volume, curve.volumes, "volume, A$^3$/atom"),
    ):
        axes.plot(
            range(len(values)), values, ".-", color=COLORS[ScreeningStep.WINDOW], markersize=4
        )
        axes.set_ylabel(name)
    if any(max_force > 0 for max_force in curve.max_forces):
        force.set_yscale("log")
    volume.set_xlabel("relaxation step")
    energy.set_title(title, fontsize=9)
    return figure
