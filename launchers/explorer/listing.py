"""The page that lists candidates: filters, a table, and a figure of what was found."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import plotly.graph_objects as go
from dash import Dash, Input, Output, dcc, html, no_update

from gan_htvs.errors import UserError
from gan_htvs.words import INCOMPLETE_MEANS
from launchers.console import is_incomplete, marked
from launchers.explorer.address import PAGE, Question
from launchers.explorer.controls import controls

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dash.development.base_component import Component

    from gan_htvs.store import CandidateStore

Row = dict[str, Any]

FIGURE = {"displaylogo": False, "showSendToCloud": False}
"""Of plotly: figures stay here."""

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
    """Lay the page out; the filters of an address that cannot be read are left out."""
    try:
        question = Question.read(search)
    except UserError:
        question = Question({})
    return html.Div(
        [
            html.Div(controls(question, campaigns), id="asking"),
            html.Div(
                [
                    html.P([html.Span(id="told"), html.Span(id="count")], className="told"),
                    dcc.Loading(html.Div(id="found"), delay_show=400),
                    dcc.Graph(id="figure", style={"display": "none"}, config=FIGURE),
                ],
                id="list",
            ),
        ],
        id="listing",
    )


def register(app: Dash, store: CandidateStore) -> None:
    """Let the page answer."""

    @app.callback(Output("told", "children"), Output("found", "children"), Input("url", "search"))
    def find(search: str | None) -> tuple[Any, Any]:
        try:
            question = Question.read(search)
            rows = store.rows(
                sort=question.sort,
                skip=(question.page - 1) * PAGE,
                limit=PAGE + 1,
                **question.filters,
            )
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

    @app.callback(Output("figure", "figure"), Output("figure", "style"), Input("url", "search"))
    def draw(search: str | None) -> tuple[Any, Any]:
        try:
            filters = Question.read(search).filters
            rows = store.rows(limit=MOST_POINTS, **{"pourbaix_min": "-1000..", **filters})
        except UserError:
            return no_update, {"display": "none"}
        return (scatter(rows), {}) if rows else (no_update, {"display": "none"})

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
    """Say which candidates these are."""
    if not rows:
        return "none"
    first = (question.page - 1) * PAGE + 1
    return f"{first:,} to {first + min(len(rows), PAGE) - 1:,}"


def table(question: Question, rows: Sequence[Row]) -> Component:
    """Show a page of candidates; one more than that tells that another page follows."""
    if not rows:
        return html.P("No candidate is like this: widen the filters, or go back to the first page.")
    head = html.Tr([html.Th(_title(column, question)) for column in COLUMNS])
    has_incomplete = any(map(is_incomplete, rows[:PAGE]))
    body = [html.Tr(list(_cells(row))) for row in rows[:PAGE]]
    return html.Div(
        [
            html.Div(html.Table([html.Thead(head), html.Tbody(body)]), className="wide"),
            html.P(INCOMPLETE_MEANS, className="note") if has_incomplete else None,
            _pages(question, is_last=len(rows) <= PAGE),
        ]
    )


def _title(column: Column, question: Question) -> Any:
    if column.sort is None:
        return column.title
    is_chosen = question.sort.removeprefix("-") == column.sort
    order = f"-{column.sort}" if question.sort == column.sort else column.sort
    arrow = "" if not is_chosen else " ▼" if question.sort.startswith("-") else " ▲"
    return dcc.Link(column.title + arrow, href="/" + question._replace(sort=order, page=1).write())


def _pages(question: Question, *, is_last: bool) -> Component:
    links = []
    if question.page > 1:
        before = question._replace(page=question.page - 1).write()
        links.append(dcc.Link("← before", href=f"/{before}", id="before"))
    if not is_last:
        after = question._replace(page=question.page + 1).write()
        links.append(dcc.Link("next →", href=f"/{after}", id="next"))
    return html.Nav(links, className="pages")


def _cells(row: Row) -> Iterator[Component]:
    for column in COLUMNS:
        text = marked(row, column.path, partial(_text, digits=column.digits))
        if column.path in ("formula_pretty", "candidate_id"):
            yield html.Td(dcc.Link(text, href=f"/candidate/{row['candidate_id']}"))
        else:
            kind = None if column.digits is None else "number"
            yield html.Td(text, className=kind, title=_explanation(row, column.path))


def _text(value: Any, digits: int | None) -> str:
    if value is None:
        return "-"
    return str(value) if digits is None else f"{value:z.{digits}f}"


def _explanation(row: Row, path: str) -> str | None:
    """Return what a cell shows beside its value."""
    explained = {"band_gap": "band_gap_reason", "energy_above_hull": "energy_incomplete"}
    explanation: str | None = row.get(explained.get(path, "reason")) or row.get("reason")
    return explanation


def scatter(rows: Sequence[Row]) -> go.Figure:
    """Draw stability in water against that in the solid state, gaps as colours."""
    figure = go.Figure()
    for has_gap in (False, True):
        own = [row for row in rows if (row.get("band_gap") is not None) == has_gap]
        figure.add_scatter(
            x=[row["energy_above_hull"] for row in own],
            y=[row["pourbaix"]["minimum"] for row in own],
            customdata=[row["candidate_id"] for row in own],
            text=[f"{row['formula_pretty']} {row['candidate_id'][:6]}" for row in own],
            mode="markers",
            name="gap" if has_gap else "no complete gap yet",
            marker={
                "color": [row["band_gap"] for row in own],
                "colorscale": "Viridis",
                "colorbar": {"title": "gap, eV"},
                "size": 10,
            }
            if has_gap
            else {"color": "#999999", "size": 7, "symbol": "circle-open"},
        )
    figure.update_layout(
        xaxis_range=_shown([row["energy_above_hull"] for row in rows], MOST_ABOVE_HULL),
        yaxis_range=_shown([row["pourbaix"]["minimum"] for row in rows], MOST_IN_WATER),
        xaxis_title="energy above hull, eV/atom",
        yaxis_title="decomposition energy in water, eV/atom",
        template="simple_white",
        height=420,
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        legend={"orientation": "h", "y": 1.08},
    )
    return figure


def _shown(values: Sequence[float], most: float) -> list[float]:
    """Find the part of an axis where most candidates are; elements may be far from it."""
    low, high = min(values), max(min(max(values), most), min(values))
    margin = 0.05 * (high - low) + 0.01
    return [low - margin, high + margin]
