"""Dash app of the web page: routes, file downloads and security headers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dash import Dash, Input, Output, State, dcc, html
from flask import Response, abort, request
from werkzeug.exceptions import HTTPException

from gan_htvs.core.document import encode
from gan_htvs.core.errors import UserError
from gan_htvs.results.export import StructureFormat, file_name, structure_text
from gan_htvs.results.store import CandidateStore
from launchers.monitor.history import read_history
from launchers.results.explorer import campaign_pages, candidate_page, controls, listing

if TYPE_CHECKING:
    from dash.development.base_component import Component

    from launchers.launchpad.database import Databases

REFRESH_MS = 5000
"""Interval at which open campaign pages are updated, ms."""


def create_app(databases: Databases, hosts: frozenset[str] | None = None) -> Dash:
    """Create the web page of a database. It never writes to the database.

    Parameters
    ----------
    databases
        Databases to show.
    hosts
        Accepted host names of requests, which prevents DNS rebinding; None: any.
    """
    store = CandidateStore(databases.store("candidates", key="candidate_id"))
    survey = campaign_pages.Survey(databases)
    # Serve scripts and styles locally, not from a CDN.
    app = Dash(
        "launchers.results.explorer", title="gan-htvs", update_title="", serve_locally=True,
        suppress_callback_exceptions=True, include_assets_files=True,
    )  # fmt: skip
    links = [dcc.Link("candidates", href="/"), dcc.Link("campaigns", href="/campaigns")]
    app.layout = html.Div(
        [
            dcc.Location(id="url", refresh="callback-nav"),
            dcc.Interval(id="refresh", interval=REFRESH_MS),
            html.Header([html.B("gan-htvs"), *links]),
            html.Main(id="page"),
        ]
    )

    @app.callback(Output("page", "children"), Input("url", "pathname"), State("url", "search"))
    def page(pathname: str | None, search: str | None) -> Component:
        try:
            match str(pathname or "/").strip("/").split("/"):
                case [""]:
                    names = survey.names
                    is_empty = not names and not store.rows(limit=1)
                    if is_empty:
                        return campaign_pages.layout()
                    return listing.layout(search, names, survey.stages)
                case ["campaigns"]:
                    return campaign_pages.layout()
                case ["campaigns", name]:
                    return campaign_pages.layout_of_one(databases, name)
                case ["candidate", candidate_id]:
                    return candidate_page.layout(read_history(databases, candidate_id))
            message = "Page not found."
        except UserError as error:
            message = str(error)
        return html.P(message, className="error", role="alert")

    listing.register(app, store)
    controls.register(app, survey)
    candidate_page.register(app)
    campaign_pages.register(app, survey)
    _serve_files(app, store)
    _secure(app, hosts)
    return app


def _serve_files(app: Dash, store: CandidateStore) -> None:
    @app.server.get("/files/<candidate_id>.<extension>")
    def file(candidate_id: str, extension: str) -> Response:
        candidate = store.get(candidate_id)
        if candidate is None or extension not in (*StructureFormat, "json"):
            abort(404)
        if extension == "json":
            name, kind = f"{candidate_id}.json", "application/json"
            text = json.dumps(encode(candidate), default=str, indent=1)
        else:
            structure_format, kind = StructureFormat(extension), "text/plain"
            name, text = (
                file_name(candidate, structure_format),
                structure_text(candidate, structure_format),
            )
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(text, mimetype=kind, headers=headers)


def _secure(app: Dash, hosts: frozenset[str] | None) -> None:
    scripts = " ".join(app.csp_hashes())
    headers = {
        "Content-Security-Policy": f"default-src 'self'; script-src 'self' {scripts}; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        "worker-src 'self' blob:; frame-ancestors 'none'; form-action 'self'; base-uri 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }

    @app.server.before_request
    def check_host() -> None:
        name = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
        if hosts is not None and name not in hosts:
            abort(403)

    @app.server.after_request
    def add_headers(response: Response) -> Response:
        response.headers.update(headers)
        return response

    @app.server.errorhandler(HTTPException)
    @app.server.errorhandler(500)
    def error_page(error: Any) -> tuple[str, int]:
        return f"{error.name}.", error.code
