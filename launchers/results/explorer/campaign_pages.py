"""The pages of campaigns: how they stand now, and the figures of one."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING

from dash import Dash, Input, Output, dcc, html
from rich.text import Text

from gan_htvs.core.figures import figure_data_uri
from gan_htvs.results.funnel import PUBLISHED_SOURCE
from gan_htvs.results.html_report import CAPTIONS
from launchers.console.output import Grid, cell_text, is_number
from launchers.monitor.status.status_document import Status
from launchers.monitor.status.survey import survey
from launchers.monitor.status.table import grids, headline
from launchers.results.campaign_report import figures, read_results, read_trajectories

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dash.development.base_component import Component

    from gan_htvs.results.funnel import Funnel
    from launchers.launchpad.database import Databases
    from launchers.monitor.status.status_document import CampaignStatus

FRESH_SECONDS = 3.0
AS_LONG = 10
"""A survey is shown for this time, or for so many times as long as it took."""

EMPTY = """\
### There is no campaign in this database yet

    gan-htvs demo                 # a small one, about ten minutes
    gan-htvs init my-campaign     # writes a campaign.yaml to start from
    gan-htvs run campaign.yaml

This page shows what they find while they run. If there should be campaigns, `--launchpad` names
the file of another database.
"""


class Survey:
    """Status of all campaigns, which requests at about the same time share."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._lock = Lock()
        self._fresh_until = -math.inf
        self._last: Status

    def __call__(self) -> Status:
        """Return the current status, or that of a little while ago."""
        with self._lock:
            began = time.monotonic()
            if began > self._fresh_until:
                self._last = self._look()
                now = time.monotonic()
                self._fresh_until = now + max(FRESH_SECONDS, AS_LONG * (now - began))
            return self._last

    @property
    def names(self) -> list[str]:
        """Names of all campaigns."""
        with self._databases.store("campaigns", key="name") as store:
            return sorted(store.distinct("name"))

    def _look(self) -> Status:
        if self.names:
            return survey(self._databases)
        return Status(checked_on=datetime.now(UTC), campaigns=())


def layout() -> Component:
    """Lay the page of all campaigns out, which :func:`register` fills again and again."""
    return html.Div([html.H1("Campaigns"), html.Div(id="campaigns")])


def register(app: Dash, looked: Survey) -> None:
    """Let the page answer."""

    @app.callback(Output("campaigns", "children"), Input("again", "n_intervals"))
    def show(_: int | None) -> Component:
        look = looked()
        if not (look.campaigns or look.unreadable):
            return dcc.Markdown(EMPTY)
        cards = [_card(each) for each in look.campaigns]
        others = [html.P(message) for message in look.unreadable]
        when = html.P(f"looked at {look.checked_on.astimezone():%H:%M:%S %Z}", className="note")
        return html.Div([*cards, *others, when])


def _card(status: CampaignStatus) -> Component:
    done = status.n_requested - status.n_remaining
    return html.Section(
        [
            html.H2(dcc.Link(status.name, href=f"/campaigns/{status.name}")),
            html.P(_plain(headline(status)), className="headline"),
            html.Progress(value=str(done), max=str(status.n_requested)),
            html.Ul([html.Li(f"{each.what}: {each.fix}") for each in status.findings]),
            *map(_drawn, grids(status)),
        ],
        className="card",
    )


def layout_of_one(databases: Databases, name: str) -> Component:
    """Lay the page of one campaign out: its funnel and its figures.

    Raises
    ------
    UserError
        If there is no such campaign.
    """
    results = read_results(databases, name)
    drawn = figures(results, read_trajectories(databases, results))
    return html.Article(
        [
            html.H1(f"{name}: {results.campaign.chemical_system.chemsys}"),
            html.P(dcc.Link("its candidates", href=f"/?campaign={name}")),
            _drawn(_funnel(results.funnel)),
            html.P(results.funnel.caveat, className="note"),
            *(
                html.Figure(
                    [
                        html.Img(src=figure_data_uri(figure), alt=what, className="figure"),
                        html.Figcaption(CAPTIONS[what]),
                    ]
                )
                for what, figure in drawn.items()
            ),
        ]
    )


def _funnel(funnel: Funnel) -> Grid:
    columns: dict[str, Sequence[int | None]] = dict(funnel.counts)
    if any(count is not None for count in funnel.published):
        columns[f"published: {PUBLISHED_SOURCE}"] = funnel.published
    return Grid(
        "Funnel", ("stage", *columns), list(zip(funnel.stages, *columns.values(), strict=True))
    )


def _plain(markup: str) -> str:
    return Text.from_markup(markup).plain


def _drawn(grid: Grid) -> Component:
    head = html.Tr([html.Th(name) for name in grid.head])
    body = [
        html.Tr([html.Td(cell_text(v), className="number" if is_number(v) else None) for v in row])
        for row in filter(None, grid.rows)
    ]
    table = html.Div(html.Table([html.Thead(head), html.Tbody(body)]), className="wide")
    more = f"and {grid.n_more} more: gan-htvs status --json has all" if grid.n_more else None
    return html.Div([html.H3(grid.title), table, html.P(more)])
