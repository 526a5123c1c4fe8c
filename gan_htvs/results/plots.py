"""Figures of a campaign: funnel, convex hull, Pourbaix stability and band gaps."""

from __future__ import annotations

from collections import defaultdict
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from adjustText import adjust_text
from cycler import cycler
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pymatgen.analysis.phase_diagram import PDPlotter, triangular_coord
from pymatgen.core import Composition
from pymatgen.util.string import latexify

from gan_htvs.core.figures import COLORS, GREY, PUBLISHED_STYLE, RED
from gan_htvs.core.properties import BAND_GAP, ENERGY_ABOVE_HULL, POURBAIX
from gan_htvs.core.stages import REFERENCE_PHASE
from gan_htvs.core.text import INCOMPLETE_MARK
from gan_htvs.results.funnel import (
    PUBLISHED_COLUMN,
    energy_order,
    first_of_each_crystal,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from gan_htvs.core.funnel_stages import FunnelSettings
    from gan_htvs.results.funnel import Funnel
    from gan_htvs.thermodynamics.hull import ReferenceSet

Row = dict[str, Any]
"""Candidate document with the fields :data:`PLOT_FIELDS`."""

PLOT_FIELDS = (
    *("candidate_id", "formula_pretty", "origin.proposer", "origin.label", "stage"),
    *("energy_above_hull", "decomposition_energy", "formation_energy_per_atom"),
    *("band_gap", "band_gap_method", "incomplete_band_gap", "pourbaix.minimum", "pourbaix.ph"),
    *("pourbaix.decomposition_energies", "duplicate_of", "pourbaix.settings", "level_of_theory"),
)
"""Fields of a candidate document that the figures need."""

MAX_LABELED_CURVES = 12
"""Maximum number of curves with their own color and legend entry."""
MAX_LABELED_POINTS = 40
"""Maximum number of points with labels."""
LABEL_STEPS = 300
"""Iterations that move labels apart."""
TERNARY, BINARY = 3, 2
"""Numbers of elements."""


def draw_funnel(funnel: Funnel) -> Figure:
    """Draw how many candidates pass each stage, measured and published."""
    figure = Figure(figsize=(8, 0.9 + 0.55 * len(funnel.stages)), dpi=120, layout="constrained")
    axes = figure.subplots()
    columns = funnel.columns
    height = 0.8 / len(columns)
    stages = np.arange(len(funnel.stages))
    for k, (name, counts) in enumerate(columns.items()):
        measured_style: dict[str, Any] = {"color": COLORS[k % len(COLORS)]}
        style = PUBLISHED_STYLE if name == PUBLISHED_COLUMN else measured_style
        positions = stages + (k + 0.5) * height - 0.4
        bars = axes.barh(positions, [count or 0 for count in counts], height, label=name, **style)
        labels = ["" if count is None else f" {count:,}" for count in counts]
        axes.bar_label(bars, labels, fontsize=8)
    axes.set(yticks=stages, yticklabels=funnel.stages, xlabel="structures")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(0, 4 * max([1, *(c or 0 for counts in columns.values() for c in counts)]))
    axes.invert_yaxis()
    axes.legend(fontsize=8)
    return figure


def draw_hull(
    rows: Sequence[Row], references: ReferenceSet, stages: FunnelSettings
) -> Figure | None:
    """Draw the hull of the reference phases with the most stable candidate of each composition.

    Candidates are colored by energy above the hull. Ternary systems are drawn as a composition
    triangle, binary ones as formation energy against composition.

    Returns
    -------
    The figure; None for other numbers of elements.
    """
    if len(references.elements) not in (BINARY, TERNARY):
        return None
    diagram = references.phase_diagram
    lines, stable, _ = PDPlotter(diagram, backend="matplotlib").pd_plot_data
    figure = Figure(figsize=(8, 6.4), dpi=120, layout="constrained")
    axes = figure.subplots()
    for x, y in lines:
        axes.plot(x, y, "-", color=GREY, linewidth=1, zorder=1)
    for x, y in stable:
        axes.plot(x, y, "ko", markersize=5, zorder=2)
    limit = stages.loosest_max(ENERGY_ABOVE_HULL)
    candidates = [r for r in _crystals(rows) if limit is None or r["energy_above_hull"] <= limit]
    # Candidates are sorted by energy: keep the first one of each formula.
    lowest = list({row["formula_pretty"]: row for row in reversed(candidates)}.values())
    if lowest:
        fractions = [diagram.pd_coords(Composition(row["formula_pretty"])) for row in lowest]
        energies = [row["energy_above_hull"] for row in lowest]
        if len(references.elements) == TERNARY:
            x, y = np.array([triangular_coord(fraction) for fraction in fractions]).T
        else:
            x, y = np.array(fractions)[:, 0], [row["formation_energy_per_atom"] for row in lowest]
        style: dict[str, Any] = {"cmap": "viridis_r", "marker": "D", "edgecolors": "k", "zorder": 3}
        points = axes.scatter(x, y, s=40, c=energies, vmin=0, vmax=0.2, **style)
        label = "energy above hull of reference phases and other candidates, eV/atom"
        figure.colorbar(points, ax=axes, shrink=0.7, label=label)
    if len(references.elements) == TERNARY:
        axes.set_aspect("equal")
        axes.axis("off")
    else:
        axes.set(
            xlabel=f"fraction of {diagram.elements[1].symbol}", ylabel="formation energy, eV/atom"
        )
    axes.set_title(f"{references.level_of_theory} (black: reference phases on the hull)")
    _label_points(
        axes, [(x, y, entry.composition.reduced_formula) for (x, y), entry in stable.items()]
    )
    return figure


def draw_pourbaix(rows: Sequence[Row], stages: FunnelSettings) -> Figure | None:
    """Draw the Pourbaix decomposition energy against pH for candidates near the hull."""
    candidates = _crystals([row for row in rows if row.get("pourbaix")])
    near_hull = stages.strictest_max(ENERGY_ABOVE_HULL)
    if near_hull is not None:
        candidates = [r for r in candidates if r["energy_above_hull"] <= near_hull]
    candidates.sort(key=lambda row: row["pourbaix"]["minimum"])
    if not candidates:
        return None
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(cycler(linestyle=["-", "--", ":"]) * cycler(color=COLORS))
    for k, row in enumerate(candidates):
        style: dict[str, Any] = {"color": GREY, "linewidth": 0.6, "alpha": 0.6, "zorder": 1}
        if k < MAX_LABELED_CURVES:
            style = {"label": f"{latexify(row['formula_pretty'])} {row['candidate_id'][:7]}"}
        axes.plot(row["pourbaix"]["ph"], row["pourbaix"]["decomposition_energies"], **style)
    limits = {stage.max for stage in stages.windows(POURBAIX) if stage.max is not None}
    for limit in sorted(limits):
        axes.axhline(limit, color=RED, linewidth=1, linestyle="--")
        axes.annotate(f"{limit:g}", (axes.get_xlim()[1], limit), color=RED, fontsize=8)
    settings = candidates[0]["pourbaix"]["settings"]
    axes.set(
        xlabel="pH",
        ylabel="Pourbaix decomposition energy, eV/atom",
        title=f"{settings['potential_vs_rhe']:g} V vs RHE, ions {settings['ion_concentration']:g} "
        "mol/l" + ("" if near_hull is None else f", within {near_hull:g} eV/atom of the hull"),
    )
    axes.legend(fontsize=7, ncols=2)
    return figure


def draw_gaps(rows: Sequence[Row], stages: FunnelSettings) -> Figure | None:
    """Draw band gap against Pourbaix decomposition energy, with the target window."""
    with_gap = [row for row in rows if row.get("band_gap") is not None and row.get("pourbaix")]
    if not with_gap:
        return None
    figure = Figure(figsize=(7, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    left = min(0.0, *(row["pourbaix"]["minimum"] for row in with_gap)) - 0.02
    right = stages.strictest_max(POURBAIX) or max(r["pourbaix"]["minimum"] for r in with_gap)
    low = stages.strictest_min(BAND_GAP) or 0.0
    high = stages.strictest_max(BAND_GAP) or max(r["band_gap"] for r in with_gap)
    target = Rectangle((left, low), right - left, high - low, color=COLORS[2], alpha=0.15)
    axes.add_patch(target)
    points = defaultdict(list)
    for row in with_gap:
        is_phase = row["origin"]["proposer"] == REFERENCE_PHASE
        kind = (row["band_gap_method"] or "not labeled", is_phase)
        points[kind].append((row["pourbaix"]["minimum"], row["band_gap"]))
    colors = dict(zip(sorted({method for method, _ in points}), cycle(COLORS), strict=False))
    for (method, is_phase), values in sorted(points.items()):
        marker, name = ("x", "reference phases") if is_phase else ("o", "candidates")
        style: dict[str, Any] = {"marker": marker, "color": colors[method]}
        axes.scatter(*zip(*values, strict=True), label=f"{name}, {method}", **style)
    axes.set(
        xlabel="smallest Pourbaix decomposition energy, eV/atom",
        ylabel="band gap, eV",
        title=f"shaded: windows of the stages (<= {right:.2f} eV/atom, {low:.2g} to {high:.2g} eV)",
        ylim=(0, None),
    )
    axes.set_xlim(left, None)
    axes.legend(fontsize=7)
    _label_points(
        axes, [(r["pourbaix"]["minimum"], r["band_gap"], _gap_label(r)) for r in with_gap]
    )
    return figure


def _gap_label(row: Row) -> str:
    """Return the formula of a candidate, with a mark if its gap is incomplete."""
    is_incomplete = row.get("incomplete_band_gap") is not None
    return str(row["formula_pretty"]) + (INCOMPLETE_MARK if is_incomplete else "")


def _label_points(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Label points with formulas that do not overlap; skip the labels if there are too many."""
    if len(points) > MAX_LABELED_POINTS:
        return
    adjust_text(
        [axes.text(x, y, latexify(formula), fontsize=8) for x, y, formula in points],
        ax=axes,
        iter_lim=LABEL_STEPS,
        expand=(1.3, 1.7),
        arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.5},
    )


def _crystals(rows: Sequence[Row]) -> list[Row]:
    """Return candidates with a plausible energy, one per crystal, sorted by energy."""
    plausible = [
        row
        for row in rows
        if row.get("energy_above_hull") is not None and row["origin"]["proposer"] != REFERENCE_PHASE
    ]
    return list(first_of_each_crystal(sorted(plausible, key=energy_order)))
