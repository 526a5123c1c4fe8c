"""The page that lists candidates: filters, a table, and a figure of what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import plotly.graph_objects as go
from dash import Dash, Input, Output, dcc, html

from gan_htvs.core.errors import UserError
from gan_htvs.core.text import INCOMPLETE_NOTE
from launchers.console.output import is_incomplete, marked
from launchers.results.explorer.address import PAGE, Question
from launchers.results.explorer.controls import controls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dash.development.base_component import Component

    from gan_htvs.results.store import CandidateStore

Row = dict[str, Any]

FIGURE = {"displaylogo": False, "showSendToCloud": False}
"""Of plotly: figures stay here."""

STYLE = {"template": "simple_white", "margin": {"l": 60, "r": 20, "t": 20, "b": 50}}
"""Layout of all figures of plotly."""

MOST_ABOVE_HULL, MOST_IN_WATER = 0.5, 1.5
"""Largest energies that its axes begin with, eV/atom."""

MOST_POINTS = 1000
"""Candidates in the figure, the most stable ones."""


class Column(NamedTuple):
    """A column of the table; with an order, its title sorts."""

    title: str
    path: str
    digits: int | None = None
    sort: str | None = None


COLUMNS = (
    Column("formula", "formula_pretty"),
    Column("id", "candidate_id"),
    Column("atoms", "nsites", 0),
    Column("space group", "symmetry.symbol"),
    Column("proposed by", "origin.proposer"),
    Column("above hull, eV/atom", "energy_above_hull", 3, sort="energy_above_hull"),
    Column("in water, eV/atom", "pourbaix.minimum", 3, sort="pourbaix_min"),
    Column("gap, eV", "band_gap", 2, sort="band_gap"),
    Column("stage", "stage"),
    Column("energies of", "level_of_theory"),
)


def layout(search: str | None, campaigns: Sequence[str]) -> Component:
    """Return the page; the filters of an invalid address are left out."""
    results = [
        html.P([html.Span(id="told"), html.Span(id="count")], className="told"),
        dcc.Loading(html.Div(id="found"), delay_show=400),
        html.Div(id="drawn"),
    ]
    return html.Div(
        [
            html.Div(controls(Question.read_or_all(search), campaigns), id="asking"),
            html.Div(results, id="list"),
        ],
        id="listing",
    )


def register(app: Dash, store: CandidateStore) -> None:
    """Register what fills the page whenever the address changes."""

    @app.callback(Output("told", "children"), Output("found", "children"), Input("url", "search"))
    def find(search: str | None) -> tuple[Any, Any]:
        try:
            question = Question.read(search)
            skip = (question.page - 1) * PAGE
            rows = store.rows(sort=question.sort, skip=skip, limit=PAGE + 1, **question.filters)
        except UserError as error:
            return html.Span(str(error), className="error", role="alert"), None
        return told(question, rows), table(question, rows)

    @app.callback(Output("count", "children"), Input("url", "search"))
    def count(search: str | None) -> str:
        # By itself: the table need not wait for a server that counts one by one.
        try:
            return f" of {store.count(**Question.read(search).filters):,}"
        except UserError:
            return ""

    @app.callback(Output("drawn", "children"), Input("url", "search"))
    def draw(search: str | None) -> Component | None:
        try:
            filters = Question.read(search).filters
            rows = store.rows(limit=MOST_POINTS, **{"pourbaix_min": "-1000..", **filters})
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


def told(question: Question, rows: Sequence[Row]) -> str:
    """Return which candidates these are."""
    first = (question.page - 1) * PAGE + 1
    return f"{first:,} to {first + min(len(rows), PAGE) - 1:,}" if rows else "none"


def table(question: Question, rows: Sequence[Row]) -> Component:
    """Show a page of candidates; one more than that tells that another page follows."""
    if not rows:
        return html.P("No candidate is like this: widen the filters, or go back to the first page.")
    head = html.Tr([html.Th(_title(column, question)) for column in COLUMNS])
    has_incomplete = any(map(is_incomplete, rows[:PAGE]))
    body = [html.Tr([_cell(row, column) for column in COLUMNS]) for row in rows[:PAGE]]
    links = []
    if question.page > 1:
        links.append(_link("← before", question._replace(page=question.page - 1), "before"))
    if len(rows) > PAGE:
        links.append(_link("next →", question._replace(page=question.page + 1), "next"))
    return html.Div(
        [
            html.Div(html.Table([html.Thead(head), html.Tbody(body)]), className="wide"),
            html.P(INCOMPLETE_NOTE, className="note") if has_incomplete else None,
            html.Nav(links, className="pages"),
        ]
    )


def _title(column: Column, question: Question) -> Any:
    if column.sort is None:
        return column.title
    is_chosen = question.sort.removeprefix("-") == column.sort
    order = f"-{column.sort}" if question.sort == column.sort else column.sort
    arrow = "" if not is_chosen else " ▼" if question.sort.startswith("-") else " ▲"
    return _link(column.title + arrow, question._replace(sort=order, page=1), f"by-{column.sort}")


def _link(text: str, question: Question, name: str) -> Component:
    return dcc.Link(text, href=f"/{question.write()}", id=name)


def _cell(row: Row, column: Column) -> Component:
    path = column.path
    shown = marked(row, path, column.digits or 0)
    if path in ("formula_pretty", "candidate_id"):
        return html.Td(dcc.Link(shown, href=f"/candidate/{row['candidate_id']}"))
    explained = {"band_gap": "band_gap_reason", "energy_above_hull": "energy_incomplete"}
    explanation = row.get(explained.get(path, "reason")) or row.get("reason")
    return html.Td(shown, className=None if column.digits is None else "number", title=explanation)


def scatter(rows: Sequence[Row]) -> go.Figure:
    """Draw stability in water against that in the solid state, gaps as colors."""
    figure = go.Figure()
    gap_marker = {"colorscale": "Viridis", "colorbar": {"title": "gap, eV"}, "size": 10}
    plain_marker = {"color": "#999999", "size": 7, "symbol": "circle-open"}
    for has_gap in (False, True):
        own = [row for row in rows if (row.get("band_gap") is not None) == has_gap]
        colors = {"color": [row.get("band_gap") for row in own]}
        figure.add_scatter(
            x=[row["energy_above_hull"] for row in own],
            y=[row["pourbaix"]["minimum"] for row in own],
            customdata=[row["candidate_id"] for row in own],
            text=[f"{row['formula_pretty']} {row['candidate_id'][:6]}" for row in own],
            mode="markers",
            name="gap" if has_gap else "no complete gap yet",
            marker=gap_marker | colors if has_gap else plain_marker,
        )
    figure.update_layout(
        xaxis_range=_shown([row["energy_above_hull"] for row in rows], MOST_ABOVE_HULL),
        yaxis_range=_shown([row["pourbaix"]["minimum"] for row in rows], MOST_IN_WATER),
        xaxis_title="energy above hull, eV/atom",
        yaxis_title="decomposition energy in water, eV/atom",
        height=420,
        legend={"orientation": "h", "y": 1.08},
        **STYLE,
    )
    return figure


def _shown(values: Sequence[float], most: float) -> list[float]:
    """Find the part of an axis where most candidates are; elements may be far from it."""
    low, high = min(values), max(min(max(values), most), min(values))
    margin = 0.05 * (high - low) + 0.01
    return [low - margin, high + margin]
