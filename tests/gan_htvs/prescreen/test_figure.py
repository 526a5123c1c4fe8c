from __future__ import annotations

from gan_htvs.core.candidate import Curve, PrescreenVerdict
from gan_htvs.core.figures import render_figure
from gan_htvs.core.stages import ScreeningStep
from gan_htvs.prescreen.figure import COLORS, EnergyTrajectory, draw_prescreen, draw_relaxation
from gan_htvs.prescreen.summary import summarize

RECORDS = [
    PrescreenVerdict(rejected_at=ScreeningStep.WINDOW, cpu_seconds=4.0),
    PrescreenVerdict(rejected_at=ScreeningStep.WINDOW, cpu_seconds=3.0),
    PrescreenVerdict(),
]


def test_figures_render_as_png():
    curve = Curve(energies=[-1.0, -2.0], max_forces=[1.0, 0.05], volumes=[20.0, 10.0])
    for image in (draw_prescreen(summarize(RECORDS), [], 0.2), draw_relaxation(curve, "a")):
        assert render_figure(image).startswith(b"\x89PNG")


def test_colors_of_relaxations_and_bars_of_steps():
    trajectories = [
        EnergyTrajectory(ScreeningStep.WINDOW, [1.5, 0.9, 0.4]),
        EnergyTrajectory(None, [0.5, 0.1]),
    ]
    curves, bars = draw_prescreen(summarize(RECORDS), trajectories, 0.2).axes
    lines = [line for line in curves.lines if len(line.get_xdata()) > 1]
    assert [list(line.get_ydata()) for line in lines] == [
        [1.5, 0.9, 0.4],
        [0.5, 0.1],
        [0.2, 0.2],  # the window
    ]
    assert [line.get_color() for line in lines[:2]] == [
        COLORS[ScreeningStep.WINDOW],
        COLORS[None],
    ]
    labels = [text.get_text() for text in curves.get_legend().get_texts()]
    assert labels == ["hull window", "survived"]
    widths = [bar.get_width() for bar in bars.patches]
    assert widths == [0, 0, 0, 0, 0, 2, 0, 0, 1]
    assert " 2, 7 s" in [text.get_text() for text in bars.texts]


def test_empty_prescreen_has_no_figure():
    assert draw_prescreen(summarize([]), [], 0.2) is None
