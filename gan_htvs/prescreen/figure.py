"""A prescreen as a picture: how structures relaxed, and where they left; one of them in detail."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gan_htvs.candidate import Hurdle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gan_htvs.descent import Curve
    from gan_htvs.prescreen.summary import PrescreenSummary

COLOURS: dict[Hurdle | None, str] = {
    Hurdle.VALIDITY: "#555555",
    Hurdle.DUPLICATE: "#000000",
    Hurdle.RELAXATION: "#999999",
    Hurdle.GEOMETRY: "#d55e00",
    Hurdle.STOPPING: "#e69f00",
    Hurdle.WINDOW: "#0072b2",
    Hurdle.RELAXED_DUPLICATE: "#56b4e9",
    Hurdle.CONFIRMATION: "#cc79a7",
    None: "#009e73",
}
"""By the hurdle; Okabe and Ito, distinct to colour-blind readers, and greys."""

LINEAR = 0.2
"""Energies above the hull, eV/atom, below which their axis is linear, and above logarithmic."""


TICKS = (-1, -0.5, -0.2, -0.1, 0, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
"""Of that axis, eV/atom."""


class EnergyTrajectory(NamedTuple):
    """The energies of a relaxation, and how it left the prescreen."""

    hurdle: Hurdle | None
    above_hull: Sequence[float]
    """eV/atom, of every step, the start first."""


def draw_prescreen(
    summary: PrescreenSummary, trajectories: Sequence[EnergyTrajectory], window: float
) -> Figure | None:
    """Draw relaxations, coloured by how they left, and a bar for each hurdle.

    Parameters
    ----------
    summary
        Of the whole campaign.
    trajectories
        Some of its relaxations.
    window
        Largest energy above hull that goes on, eV/atom.

    Returns
    -------
    The image; None where nothing was prescreened.
    """
    if not summary.total.n:
        return None
    figure = Figure(figsize=(12, 4.6), dpi=120, layout="constrained")
    curves, bars = figure.subplots(1, 2)
    for trajectory in trajectories:
        curves.plot(
            range(len(trajectory.above_hull)),
            trajectory.above_hull,
            color=COLOURS[trajectory.hurdle],
            linewidth=0.8,
            alpha=0.6,
        )
        curves.plot(
            len(trajectory.above_hull) - 1,
            trajectory.above_hull[-1],
            ".",
            color=COLOURS[trajectory.hurdle],
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
    drawn = {trajectory.hurdle for trajectory in trajectories}
    kinds = [part for part in summary.parts if part.hurdle in drawn]
    handles = [Line2D([], [], color=COLOURS[part.hurdle], label=part.name) for part in kinds]
    if handles:
        curves.legend(handles=handles, fontsize=7)
    bars.barh(
        [part.name for part in summary.parts],
        [part.n for part in summary.parts],
        color=[COLOURS[part.hurdle] for part in summary.parts],
    )
    for y, part in enumerate(summary.parts):
        label = f" {part.n:,}" + (f", {part.cpu_seconds:,.0f} s" if part.cpu_seconds else "")
        bars.annotate(label, (part.n, y), va="center", fontsize=8)
    bars.set(xlabel="structures, and the processor time that they took")
    bars.xaxis.get_major_locator().set_params(integer=True)
    bars.set_xlim(0, 1.25 * max(part.n for part in summary.parts))
    bars.invert_yaxis()
    return figure


def draw_descent(curve: Curve, title: str) -> Figure:
    """Draw energy, largest force and volume of one relaxation against its steps."""
    figure = Figure(figsize=(6, 7), dpi=120, layout="constrained")
    energy, force, volume = figure.subplots(3, 1, sharex=True)
    for axes, values, name in (
        (energy, curve.energies, "energy, eV/atom"),
        (force, curve.max_forces, "largest force, eV/A"),
        (volume, curve.volumes, "volume, A$^3$/atom"),
    ):
        axes.plot(range(len(values)), values, ".-", color=COLOURS[Hurdle.WINDOW], markersize=4)
        axes.set_ylabel(name)
    if any(each > 0 for each in curve.max_forces):
        force.set_yscale("log")
    volume.set_xlabel("relaxation step")
    energy.set_title(title, fontsize=9)
    return figure
