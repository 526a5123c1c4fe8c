"""Page of the candidate list: filters, table and figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import plotly.graph_objects as go
from dash import Dash, Input, Output, dcc, html

from gan_htvs.core.errors import UserError
from gan_htvs.core.text import INCOMPLETE_NOTE
from gan_htvs.thermodynamics.coverage import all_uncovered, incomplete_hull_warning
from launchers.console.output import is_incomplete, marked
from launchers.results.explorer.address import PAGE_SIZE, SearchQuery
from launchers.results.explorer.controls import controls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dash.development.base_component import Component

    from gan_htvs.results.store import CandidateStore

Row = dict[str, Any]

FIGURE = {"displaylogo": False, "showSendToCloud": False}
"""Plotly configuration, without upload of figures."""

STYLE = {"template": "simple_white", "margin": {"l": 60, "r": 20, "t": 20, "b": 50}}
"""Layout of all plotly figures."""

MAX_ABOVE_HULL, MAX_POURBAIX = 0.5, 1.5
"""Upper limits of the axes before zooming, eV/atom."""

MAX_POINTS = 1000
"""Maximum number of candidates in the figure, most stable first."""


class Column(NamedTuple):
    """A column of the table; its title is a link if ``sort`` is set."""

    title: str
    path: str
    digits: int | None = None
    sort: str | None = None


COLUMNS = (
    Column("formula", "formula_pretty"),
    Column("id", "candidate_id"),
    Column("atoms", "nsites", 0),
    Column("space group at 0.1 A", "symmetry.symbol"),
    Column("proposed by", "origin.proposer"),
    Column("above hull, eV/atom", "energy_above_hull", 3, sort="energy_above_hull"),
    Column("Pourbaix, eV/atom", "pourbaix.minimum", 3, sort="pourbaix_min"),
    Column("gap, eV", "band_gap", 2, sort="band_gap"),
    Column("stage", "stage"),
    Column("level of theory", "level_of_theory"),
)


def layout(search: str | None, campaigns: Sequence[str], stages: Sequence[str]) -> Component:
    """Return the page; the filters of an invalid URL are ignored."""
    results = [
        html.P([html.Span(id="range"), html.Span(id="count")], className="range"),
        dcc.Loading(html.Div(id="results"), delay_show=400),
        html.Div(id="plot"),
    ]
    return html.Div(
        [
            html.Div(controls(SearchQuery.read_or_all(search), campaigns, stages), id="filters"),
            html.Div(results, id="list"),
        ],
        id="listing",
    )


def register(app: Dash, store: CandidateStore) -> None:
    """Register the callbacks that fill the page when the URL changes."""

    @app.callback(
        Output("range", "children"), Output("results", "children"), Input("url", "search")
    )
    def find(search: str | None) -> tuple[Any, Any]:
        try:
            query = SearchQuery.read(search)
            skip = (query.page - 1) * PAGE_SIZE
            rows = store.rows(sort=query.sort, skip=skip, limit=PAGE_SIZE + 1, **query.filters)
        except UserError as error:
            return html.Span(str(error), className="error", role="alert"), None
        return row_range(query, rows), table(query, rows)

    @app.callback(Output("count", "children"), Input("url", "search"))
    def count(search: str | None) -> str:
        # A separate callback: the table does not wait for a slow count.
        try:
            return f" of {store.count(**SearchQuery.read(search).filters):,}"
        except UserError:
            return ""

    @app.callback(Output("plot", "children"), Input("url", "search"))
    def draw(search: str | None) -> Component | None:
        try:
            filters = SearchQuery.read(search).filters
            rows = store.rows(limit=MAX_POINTS, **{"pourbaix_min": "-1000..", **filters})
        except UserError:
            return None
        return dcc.Graph(figure=scatter(rows), id="figure", config=FIGURE) if rows else None

    app.clientside_callback(
        """(click) => {
            if (click) { window.location.assign("/candidate/" + click.points[0].customdata); }
            return window.dash_clientside.no_update;
        }""",
        Output("figure", "clickData"),
        Input("figure", "clickData"),
        prevent_initial_call=True,
    )


def row_range(query: SearchQuery, rows: Sequence[Row]) -> str:
    """Return the numbers of the first and last row of the page."""
    first = (query.page - 1) * PAGE_SIZE + 1
    return f"{first:,} to {first + min(len(rows), PAGE_SIZE) - 1:,}" if rows else "none"


def table(query: SearchQuery, rows: Sequence[Row]) -> Component:
    """Return the table of a page; a surplus row means that another page follows."""
    if not rows:
        return html.P("No candidate matches: widen the filters, or go back to the first page.")
    head = html.Tr([html.Th(_title(column, query)) for column in COLUMNS])
    has_incomplete = any(map(is_incomplete, rows[:PAGE_SIZE]))
    warning = incomplete_hull_warning(all_uncovered(rows[:PAGE_SIZE]))
    body = [html.Tr([_cell(row, column) for column in COLUMNS]) for row in rows[:PAGE_SIZE]]
    links = []
    if query.page > 1:
        links.append(_link("← previous", query._replace(page=query.page - 1), "previous"))
    if len(rows) > PAGE_SIZE:
        links.append(_link("next →", query._replace(page=query.page + 1), "next"))
    return html.Div(
        [
            html.Div(html.Table([html.Thead(head), html.Tbody(body)]), className="wide"),
            html.P(warning, className="warning") if warning else None,
            html.P(INCOMPLETE_NOTE, className="note") if has_incomplete else None,
            html.Nav(links, className="pages"),
        ]
    )


def _title(column: Column, query: SearchQuery) -> Any:
    if column.sort is None:
        return column.title
    is_chosen = query.sort.removeprefix("-") == column.sort
    order = f"-{column.sort}" if query.sort == column.sort else column.sort
    arrow = "" if not is_chosen else " ▼" if query.sort.startswith("-") else " ▲"
    return _link(column.title + arrow, query._replace(sort=order, page=1), f"by-{column.sort}")


def _link(text: str, query: SearchQuery, name: str) -> Component:
    return dcc.Link(text, href=f"/{query.write()}", id=name)


def _cell(row: Row, column: Column) -> Component:
    path = column.path
    text = marked(row, path, column.digits or 0)
    if path in ("formula_pretty", "candidate_id"):
        return html.Td(dcc.Link(text, href=f"/candidate/{row['candidate_id']}"))
    reasons = {"band_gap": "band_gap_reason", "energy_above_hull": "energy_incomplete"}
    explanation = row.get(reasons.get(path, "reason")) or row.get("reason")
    return html.Td(text, className=None if column.digits is None else "number", title=explanation)


def scatter(rows: Sequence[Row]) -> go.Figure:
    """Draw Pourbaix decomposition energy against energy above the hull, colored by band gap."""
    figure = go.Figure()
    gap_marker = {"colorscale": "Viridis", "colorbar": {"title": "gap, eV"}, "size": 10}
    plain_marker = {"color": "#999999", "size": 7, "symbol": "circle-open"}
    for has_gap in (False, True):
        group = [row for row in rows if (row.get("band_gap") is not None) == has_gap]
        colors = {"color": [row.get("band_gap") for row in group]}
        figure.add_scatter(
            x=[row["energy_above_hull"] for row in group],
            y=[row["pourbaix"]["minimum"] for row in group],
            customdata=[row["candidate_id"] for row in group],
            text=[f"{row['formula_pretty']} {row['candidate_id'][:7]}" for row in group],
            mode="markers",
            name="gap" if has_gap else "no complete gap yet",
            marker=gap_marker | colors if has_gap else plain_marker,
        )
    figure.update_layout(
        xaxis_range=_axis_range([row["energy_above_hull"] for row in rows], MAX_ABOVE_HULL),
        yaxis_range=_axis_range([row["pourbaix"]["minimum"] for row in rows], MAX_POURBAIX),
        xaxis_title="energy above hull, eV/atom",
        yaxis_title="Pourbaix decomposition energy, eV/atom",
        height=420,
        legend={"orientation": "h", "y": 1.08},
        **STYLE,
    )
    return figure


def _axis_range(values: Sequence[float], upper: float) -> list[float]:
    """Return axis limits that exclude outliers such as elements."""
    low, high = min(values), max(min(max(values), upper), min(values))
    margin = 0.05 * (high - low) + 0.01
    return [low - margin, high + margin]
