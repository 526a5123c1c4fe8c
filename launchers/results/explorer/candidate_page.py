"""Page of one candidate: structures, properties, provenance and files."""

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
"""Number and interval, ms, of redraws. The viewer clears its scene when it learns its size, and
draws it again only after a change."""


def layout(history: History) -> Component:
    """Return the page of a candidate."""
    candidate = history.candidate
    formats = [*map(str, StructureFormat), "json"]
    url = f"/files/{candidate.candidate_id}"
    files = [
        html.A(name.upper(), href=f"{url}.{name}", id=f"file-{name}", className="file")
        for name in formats
    ]
    is_phase = candidate.origin.proposer == REFERENCE_PHASE
    source = "as in the literature" if is_phase else "as generated"
    views = [("relaxed", candidate.structure), (source, candidate.generated_structure)]
    return html.Article(
        [
            html.H1(f"{candidate.formula_pretty} {candidate.candidate_id}"),
            html.P([f"{candidate.stage}, campaign {candidate.campaign}. Files: ", *files]),
            html.Div(
                [_view(title, structure) for title, structure in views if structure is not None],
                className="views",
            ),
            dcc.Interval(id="redraw", interval=REDRAW_MS, max_intervals=REDRAWS),
            html.H2("Properties and provenance"),
            html.Table(
                [html.Tr([html.Th(name), html.Td(text)]) for name, text in lines(history)],
                id="properties",
                className="properties",
            ),
            *_results(history),
        ]
    )


def register(app: Dash) -> None:
    """Register the callback that makes the viewers redraw."""
    app.clientside_callback(
        "(n, old) => old.map(() => ({atoms: true, bonds: true, unit_cell: true}))",
        Output({"view": ALL}, "toggleVisibility"),
        Input("redraw", "n_intervals"),
        State({"view": ALL}, "id"),
        prevent_initial_call=True,
    )


def _view(title: str, structure: Structure) -> Component:
    lattice = structure.lattice
    lengths = ", ".join(f"{length:.3f}" for length in lattice.abc)
    angles = ", ".join(f"{angle:.1f}" for angle in lattice.angles)
    sizes = (
        f"{len(structure)} atoms; {lengths} A; {angles} degrees; "
        f"{lattice.volume / len(structure):.2f} A^3/atom"
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
    if (pourbaix := candidate.pourbaix) is not None:
        potential, concentration = (
            pourbaix.settings.potential_vs_rhe,
            pourbaix.settings.ion_concentration,
        )
        line = go.Scatter(x=pourbaix.ph, y=pourbaix.decomposition_energies, mode="lines")
        axes = {"xaxis_title": "pH", "yaxis_title": "decomposition energy, eV/atom"}
        yield html.H2("Pourbaix stability")
        yield html.P(f"At {potential:g} V vs RHE, ions {concentration:g} mol/l.")
        figure = go.Figure(line).update_layout(**axes, **STYLE, height=320)
        yield dcc.Graph(figure=figure, id="pourbaix", config=FIGURE)
    if history.relaxation is not None and history.relaxation.curve.energies:
        curve = draw_relaxation(history.relaxation.curve, str(history.relaxation.ending))
        alt = "energy, force and volume by step"
        yield html.H2("Relaxation in the prescreen")
        yield html.Img(src=figure_data_uri(curve), alt=alt, className="figure")
