"""Pages of campaigns: progress of all campaigns, figures of one campaign."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING

from dash import Dash, Input, Output, dcc, html
from rich.text import Text

from gan_htvs.core.figures import figure_data_uri
from gan_htvs.results.html_report import CAPTIONS
from launchers.console.output import Grid, cell_text, is_number
from launchers.launchpad.registry import stage_names
from launchers.monitor.status.status_document import Status
from launchers.monitor.status.survey import survey
from launchers.monitor.status.table import grids, headline
from launchers.results.campaign_report import figures, read_results, read_trajectories

if TYPE_CHECKING:
    from dash.development.base_component import Component

    from gan_htvs.results.funnel import Funnel
    from launchers.launchpad.database import Databases
    from launchers.monitor.status.status_document import CampaignStatus

CACHE_SECONDS = 3.0
CACHE_FACTOR = 10
"""A survey is cached for ``CACHE_SECONDS``, or ``CACHE_FACTOR`` times its duration if longer."""

EMPTY = """\
### This database has no campaigns yet

    gan-htvs demo                 # a small campaign, about ten minutes
    gan-htvs init my-campaign     # writes a campaign.yaml to edit
    gan-htvs run campaign.yaml

This page shows their results while they run. If you expected campaigns, select another database
with `--launchpad`.
"""


class Survey:
    """Status of all campaigns, cached for concurrent requests."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._lock = Lock()
        self._valid_until = -math.inf
        self._status: Status

    def __call__(self) -> Status:
        """Return the current or cached status."""
        with self._lock:
            start = time.monotonic()
            if start > self._valid_until:
                self._status = self.read()
                now = time.monotonic()
                self._valid_until = now + max(CACHE_SECONDS, CACHE_FACTOR * (now - start))
            return self._status

    @property
    def names(self) -> list[str]:
        """Names of all campaigns."""
        with self._databases.store("campaigns", key="name") as store:
            return sorted(store.distinct("name"))

    @property
    def stages(self) -> list[str]:
        """Names of the stages of all campaigns."""
        return stage_names(self._databases)

    def read(self) -> Status:
        """Read the current status, bypassing the cache."""
        if self.names:
            return survey(self._databases)
        return Status(checked_on=datetime.now(UTC), campaigns=())


def layout() -> Component:
    """Return the page of all campaigns; the callback of :func:`register` updates it."""
    return html.Div([html.H1("Campaigns"), html.Div(id="campaigns")])


def register(app: Dash, read_status: Survey) -> None:
    """Register the callback that updates the page of all campaigns."""

    @app.callback(Output("campaigns", "children"), Input("refresh", "n_intervals"))
    def show(_: int | None) -> Component:
        status = read_status()
        if not (status.campaigns or status.unreadable):
            return dcc.Markdown(EMPTY)
        cards = [_card(campaign) for campaign in status.campaigns]
        messages = [html.P(message) for message in status.unreadable]
        updated = html.P(
            f"updated at {status.checked_on.astimezone():%H:%M:%S %Z}", className="note"
        )
        return html.Div([*cards, *messages, updated])


def _card(status: CampaignStatus) -> Component:
    done = status.n_requested - status.n_remaining
    return html.Section(
        [
            html.H2(dcc.Link(status.name, href=f"/campaigns/{status.name}")),
            html.P(Text.from_markup(headline(status)).plain, className="headline"),
            html.Progress(value=str(done), max=str(status.n_requested)),
            html.Ul([html.Li(finding.text) for finding in status.findings]),
            *map(_table, grids(status)),
        ],
        className="card",
    )


def layout_of_one(databases: Databases, name: str) -> Component:
    """Return the page of one campaign: its funnel and figures.

    Raises
    ------
    UserError
        If the campaign does not exist.
    """
    results = read_results(databases, name)
    figures_by_name = figures(results, read_trajectories(databases, results))
    return html.Article(
        [
            html.H1(f"{name}: {results.campaign.chemical_system.chemsys}"),
            html.P(dcc.Link("candidates of this campaign", href=f"/?campaign={name}")),
            _table(_funnel(results.funnel)),
            *(html.P(sentence, className="note") for sentence in results.inputs.source_notes),
            html.P(results.funnel.hull_warning, className="warning"),
            html.P(results.funnel.implausible_warning, className="note"),
            html.P(results.funnel.caveat, className="note"),
            html.P(results.funnel.p1_note, className="note"),
            *(
                html.Figure(
                    [
                        html.Img(src=figure_data_uri(figure), alt=name, className="figure"),
                        html.Figcaption(CAPTIONS[name]),
                    ]
                )
                for name, figure in figures_by_name.items()
            ),
        ]
    )


def _funnel(funnel: Funnel) -> Grid:
    columns = funnel.columns
    rows = list(zip(funnel.stages, *columns.values(), strict=True))
    return Grid("Funnel", ("stage", *columns), rows)


def _table(grid: Grid) -> Component:
    head = html.Tr([html.Th(name) for name in grid.head])
    body = [
        html.Tr([html.Td(cell_text(v), className="number" if is_number(v) else None) for v in row])
        for row in filter(None, grid.rows)
    ]
    table = html.Div(html.Table([html.Thead(head), html.Tbody(body)]), className="wide")
    more = f"and {grid.n_more} more; use gan-htvs status --json for all" if grid.n_more else None
    return html.Div([html.H3(grid.title), table, html.P(more)])
