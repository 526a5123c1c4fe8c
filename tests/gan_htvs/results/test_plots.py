from __future__ import annotations

import io
from itertools import combinations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from gan_htvs.campaign.model import Campaign
from gan_htvs.core import figures
from gan_htvs.core.funnel_stages import FunnelSettings
from gan_htvs.core.pourbaix_stability import PourbaixSettings
from gan_htvs.results import plots
from gan_htvs.results.funnel import measure_funnel
from gan_htvs.thermodynamics.pourbaix import PourbaixAnalyzer
from tests import helpers
from tests.documents import CAMPAIGN

ENERGIES = {"Mg": 0.0, "Mn": 0.0, "O2": 0.0, "MgO": -3.06, "MnO2": -1.79, "MgMnO3": -2.36}
STAGES = FunnelSettings()


def references(*elements):
    missing = {"Mg", "Mn"} - set(elements)
    return helpers.references(
        "test",
        {f: e for f, e in ENERGIES.items() if not any(symbol in f for symbol in missing)},
    )


REFERENCES = references("Mg", "Mn")
ANALYZER = PourbaixAnalyzer(REFERENCES, PourbaixSettings())


def row(formula, above=0.02, gap=2.0, proposer="gan", **more):
    formation = above - REFERENCES.energy_above_hull(formula, 0.0)
    stability = ANALYZER.stability(formula, formation).model_dump(mode="json")
    return {
        "candidate_id": f"{formula}-{above}",
        "formula_pretty": formula,
        "origin": {"proposer": proposer},
        "energy_above_hull": above,
        "formation_energy_per_atom": formation,
        "band_gap": gap,
        "band_gap_method": "HSE06",
        "pourbaix": stability,
        "duplicate_of": None,
        **more,
    }


ROWS = [
    row("Mg2MnO4"),
    row("Mg2MnO4", 0.05, None),
    row("MgMn2O4", 0.15),
    row("MgO", 0, 6.3, proposer="reference_phase"),
    {"candidate_id": "raw", "formula_pretty": "MgO", "origin": {"proposer": "gan"}},
]


def texts(figure: Figure) -> str:
    axes = figure.axes[0]
    labels = [text.get_text() for text in (*axes.texts, *axes.get_yticklabels())]
    legend = axes.get_legend()
    labels += [text.get_text() for text in legend.get_texts()] if legend else []
    return " ".join(labels)


def test_figures_are_not_blank():
    funnel = measure_funnel(ROWS, CAMPAIGN)
    for figure in (
        plots.draw_funnel(funnel),
        plots.draw_hull(ROWS, REFERENCES, STAGES),
        plots.draw_pourbaix(ROWS, STAGES),
        plots.draw_gaps(ROWS, STAGES),
    ):
        pixels = np.asarray(Image.open(io.BytesIO(figures.render_figure(figure))).convert("L"))
        assert (pixels < 128).mean() > 0.002
        svg = figures.render_figure(figure, figures.ImageFormat.SVG)
        assert svg.startswith(b"<?xml")


def test_hull_shows_the_most_stable_candidate_of_each_composition():
    figure = plots.draw_hull(ROWS, REFERENCES, STAGES)
    (points,) = figure.axes[0].collections
    assert len(points.get_offsets()) == 2
    assert sorted(points.get_array()) == [0.02, 0.15]
    # Mg2MnO4 in a triangle with Mg at the origin, Mn at (1, 0) and O at the top.
    mn, o = 1 / 7, 4 / 7
    expected = [mn + o / 2, o * 3**0.5 / 2]
    assert min(np.abs(points.get_offsets() - expected).max(axis=1)) == pytest.approx(0, abs=1e-6)


def test_hull_shows_a_crystal_whose_lowest_candidate_is_in_another_campaign():
    duplicates = [row("MgO", above, duplicate_of="elsewhere") for above in (0.08, 0.05)]
    (points,) = plots.draw_hull(duplicates, references("Mg"), STAGES).axes[0].collections
    assert points.get_offsets().tolist() == [pytest.approx([0.5, -3.01])]


def test_binary_hull_is_drawn_against_formation_energy():
    binary = references("Mg")
    figure = plots.draw_hull([row("MgO", 0.05)], binary, STAGES)
    (points,) = figure.axes[0].collections
    assert points.get_offsets().tolist() == [pytest.approx([0.5, -3.01])]


def test_quaternary_hull_is_not_drawn():
    elements = helpers.references("test", dict.fromkeys(("Mg", "Mn", "V", "O2"), 0.0))
    assert plots.draw_hull([], elements, STAGES) is None


def test_pourbaix_curves_are_those_of_crystals_near_the_hull():
    figure = plots.draw_pourbaix(ROWS, STAGES)
    curves = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 2]
    assert [line.get_ydata()[0] for line in curves] == [
        ROWS[i]["pourbaix"]["decomposition_energies"][0] for i in (0, 1)
    ]


def test_gap_figure_shows_methods_and_target_window():
    figure = plots.draw_gaps(ROWS, STAGES)
    axes = figure.axes[0]
    (window,) = (patch for patch in axes.patches if isinstance(patch, Rectangle))
    assert (window.get_y(), window.get_height()) == (1.6, pytest.approx(1.4))
    assert window.get_x() + window.get_width() == pytest.approx(0.59)
    assert "candidates, HSE06" in texts(figure)
    assert "reference phases, HSE06" in texts(figure)


def test_figures_without_data_are_none():
    assert plots.draw_pourbaix([], STAGES) is None
    assert plots.draw_gaps(ROWS[-1:], STAGES) is None


def test_funnel_figure_shows_published_counts():
    figure = plots.draw_funnel(measure_funnel(ROWS, CAMPAIGN))
    shown = texts(figure)
    assert "Mg-Mn-O, Kim et al. 2020 (DFT)" in shown
    assert " 9,300" in shown
    assert "metastable" in shown


def test_funnel_figure_of_another_system_has_no_published_counts():
    states = {"Ca": [2, 2], "Mn": [2, 4], "O": [-2, -2]}
    system = {"caps": dict.fromkeys(states, 4)}
    calcium = CAMPAIGN.model_dump() | {"chemical_system": system, "oxidation_states": states}
    figure = plots.draw_funnel(measure_funnel(ROWS, Campaign.model_validate(calcium)))
    assert "Kim et al." not in texts(figure)


def test_labels_do_not_overlap():
    rows = [
        ROWS[0] | {"band_gap": 2.0 + i / 100, "band_gap_method": "HSE06", "candidate_id": str(i)}
        for i in range(5)
    ]
    figure = plots.draw_gaps(rows, STAGES)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert len(boxes) == 5
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
