"""The server of the web page: which address shows what, and what a browser may do."""

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
from launchers.results.explorer import campaign_pages as campaigns
from launchers.results.explorer import candidate_page as candidate
from launchers.results.explorer import controls, listing

if TYPE_CHECKING:
    from dash.development.base_component import Component

    from launchers.launchpad.database import Databases

LOOK_AGAIN_MS = 5000
"""Time after which open pages are brought up to date."""


def create_app(databases: Databases, hosts: frozenset[str] | None = None) -> Dash:
    """Make the page of a database, which it only reads.

    Parameters
    ----------
    databases
        What it shows.
    hosts
        Names by which it may be asked for, so that no other page in the reader's browser can pass
        for it; None: any.
    """
    store = CandidateStore(databases.store("candidates", key="candidate_id"))
    looked = campaigns.Survey(databases)
    # Its parts come from this server alone.
    app = Dash(
        "launchers.results.explorer", title="gan-htvs", update_title="", serve_locally=True,
        suppress_callback_exceptions=True, include_assets_files=True,
    )  # fmt: skip
    links = [dcc.Link("candidates", href="/"), dcc.Link("campaigns", href="/campaigns")]
    app.layout = html.Div(
        [
            dcc.Location(id="url", refresh="callback-nav"),
            dcc.Interval(id="again", interval=LOOK_AGAIN_MS),
            html.Header([html.B("gan-htvs"), *links]),
            html.Main(id="page"),
        ]
    )

    @app.callback(Output("page", "children"), Input("url", "pathname"), State("url", "search"))
    def page(pathname: str | None, search: str | None) -> Component:
        try:
            match str(pathname or "/").strip("/").split("/"):
                case [""]:
                    names = looked.names
                    is_empty = not names and not store.rows(limit=1)
                    return campaigns.layout() if is_empty else listing.layout(search, names)
                case ["campaigns"]:
                    return campaigns.layout()
                case ["campaigns", name]:
                    return campaigns.layout_of_one(databases, name)
                case ["candidate", candidate_id]:
                    return candidate.layout(read_history(databases, candidate_id))
            message = "There is no such page."
        except UserError as error:
            message = str(error)
        return html.P(message, className="error", role="alert")

    listing.register(app, store)
    controls.register(app, looked)
    candidate.register(app)
    campaigns.register(app, looked)
    _serve_files(app, store)
    _guard(app, hosts)
    return app


def _serve_files(app: Dash, store: CandidateStore) -> None:
    @app.server.get("/files/<candidate_id>.<form>")
    def file(candidate_id: str, form: str) -> Response:
        found = store.get(candidate_id)
        if found is None or form not in (*StructureFormat, "json"):
            abort(404)
        if form == "json":
            name, kind = f"{candidate_id}.json", "application/json"
            text = json.dumps(encode(found), default=str, indent=1)
        else:
            structure_format, kind = StructureFormat(form), "text/plain"
            name, text = file_name(found, structure_format), structure_text(found, structure_format)
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(text, mimetype=kind, headers=headers)


def _guard(app: Dash, hosts: frozenset[str] | None) -> None:
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
    def restrict(response: Response) -> Response:
        response.headers.update(headers)
        return response

    @app.server.errorhandler(HTTPException)
    @app.server.errorhandler(500)
    def refuse(error: Any) -> tuple[str, int]:
        return f"{error.name}.", error.code
