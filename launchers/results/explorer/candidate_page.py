"""The page of one candidate: its structure, what is known of it, its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go
from dash import ALL, Dash, Input, Output, State, dcc, html
from dash_mp_components import CrystalToolkitScene

from gan_htvs.core.figures import figure_data_uri
from gan_htvs.core.stages import REFERENCE_PHASE
from gan_htvs.prescreen.figure import draw_relaxation
from gan_htvs.results.export import StructureFormat
from launchers.monitor.history import lines
from launchers.results.explorer.listing import FIGURE, STYLE
from launchers.results.explorer.scene import color_of, scene_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dash.development.base_component import Component
    from pymatgen.core import Structure

    from launchers.monitor.history import History

SCENE = {"renderer": "webgl", "secondaryObjectView": False, "defaultZoom": 1.5}

REDRAWS, REDRAW_MS = 4, 400
"""A viewer that appears clears what it drew once it knows its size, and draws again only when
something changes."""


def layout(history: History) -> Component:
    """Show everything known of a candidate."""
    candidate = history.candidate
    forms = [*map(str, StructureFormat), "json"]
    address = f"/files/{candidate.candidate_id}"
    files = [
        html.A(form.upper(), href=f"{address}.{form}", id=f"file-{form}", className="file")
        for form in forms
    ]
    is_phase = candidate.origin.proposer == REFERENCE_PHASE
    first = "as in the literature" if is_phase else "as generated"
    views = [("relaxed", candidate.structure), (first, candidate.generated_structure)]
    return html.Article(
        [
            html.H1(f"{candidate.formula_pretty} {candidate.candidate_id}"),
            html.P([f"{candidate.stage}, of campaign {candidate.campaign}. Files: ", *files]),
            html.Div(
                [_view(title, structure) for title, structure in views if structure is not None],
                className="views",
            ),
            dcc.Interval(id="redraw", interval=REDRAW_MS, max_intervals=REDRAWS),
            html.H2("What is known"),
            html.Table(
                [html.Tr([html.Th(what), html.Td(words)]) for what, words in lines(history)],
                id="known",
                className="known",
            ),
            *_results(history),
        ]
    )


def register(app: Dash) -> None:
    """Let viewers draw what they show."""
    app.clientside_callback(
        "(n, old) => old.map(() => ({atoms: true, bonds: true, unit_cell: true}))",
        Output({"view": ALL}, "toggleVisibility"),
        Input("redraw", "n_intervals"),
        State({"view": ALL}, "id"),
        prevent_initial_call=True,
    )


def _view(title: str, structure: Structure) -> Component:
    lattice = structure.lattice
    lengths = ", ".join(f"{each:.3f}" for each in lattice.abc)
    angles = ", ".join(f"{each:.1f}" for each in lattice.angles)
    sizes = (
        f"{len(structure)} atoms; {lengths} A; {angles} degrees; "
        f"{lattice.volume / len(structure):.2f} A^3 an atom"
    )
    elements = [
        html.Span(symbol, className="element", style={"borderColor": color_of(symbol)})
        for symbol in sorted(structure.composition.get_el_amt_dict())
    ]
    viewer = CrystalToolkitScene(
        data=scene_of(structure), settings=SCENE, sceneSize="360px",
        showControls=False, axisView="SW", id={"view": title},
    )  # fmt: skip
    caption = html.Figcaption([html.B(title), *elements, html.Br(), sizes])
    return html.Figure([viewer, caption], className="view")


def _results(history: History) -> Iterator[Component]:
    candidate = history.candidate
    if candidate.decomposes_to:
        phases = candidate.decomposes_to.items()
        shares = ", ".join(f"{share:.0%} {phase}" for phase, share in phases)
        yield html.H2("Competing phases")
        yield html.P(f"{shares}, by share of atoms.")
    if (water := candidate.pourbaix) is not None:
        potential, concentration = water.settings.potential_vs_rhe, water.settings.ion_concentration
        line = go.Scatter(x=water.ph, y=water.decomposition_energies, mode="lines")
        axes = {"xaxis_title": "pH", "yaxis_title": "decomposition energy, eV/atom"}
        yield html.H2("In water")
        yield html.P(f"At {potential:g} V against RHE, ions {concentration:g} mol/l.")
        figure = go.Figure(line).update_layout(**axes, **STYLE, height=320)
        yield dcc.Graph(figure=figure, id="water", config=FIGURE)
    if history.relaxation is not None and history.relaxation.curve.energies:
        curve = draw_relaxation(history.relaxation.curve, str(history.relaxation.ending))
        alt = "energy, force and volume by step"
        yield html.H2("Relaxation in the prescreen")
        yield html.Img(src=figure_data_uri(curve), alt=alt, className="figure")
