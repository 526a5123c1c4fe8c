"""OPTIMADE server of the candidates."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from fastapi.exceptions import RequestValidationError
from optimade.filtertransformers.mongo import MongoTransformer
from optimade.models import OptimadeError
from optimade.server.config import ServerConfig
from optimade.server.create_app import create_app as create_optimade_app
from optimade.server.entry_collections import mongo
from optimade.server.exception_handlers import general_exception

from gan_htvs import __version__
from gan_htvs.results.builders.optimade import COLLECTION, PROPERTIES, OptimadeBuilder
from launchers.launchpad.builders import run_builder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from fastapi import FastAPI, Request, Response

    from launchers.launchpad.database import Databases

PREFIX = "ganhtvs"
"""Prefix of the names of :data:`gan_htvs.results.builders.optimade.PROPERTIES`."""

MAX_QUERY_LENGTH = 4000
"""Maximum number of characters of a URL query."""

LOGGER = logging.getLogger("optimade.gan-htvs")

INDEXED = (
    *("id", "elements", "nelements", "chemical_formula_reduced"),
    *("stage", "energy_above_hull", "pourbaix_min", "band_gap"),
)
"""Indexed fields of the entries."""


def build_entries(
    databases: Databases, on_progress: Callable[[str, int, int], None] | None = None
) -> tuple[int, dict[str, str]]:
    """Update the entries from the candidates.

    ``on_progress`` is called with a label, the number done and the total.

    Returns
    -------
    The number of entries, and the reasons why candidates have no entry, by id.
    """
    candidates = databases.store("candidates", key="candidate_id")
    entries = databases.store(COLLECTION, key="candidate_id")
    with entries:
        entries.ensure_index("candidate_id", unique=True)
        for field in INDEXED:
            entries.ensure_index(field)
    builder = OptimadeBuilder(candidates, entries)
    run_builder(builder, "entries", on_progress)
    builder.finalize()  # removes entries of deleted candidates
    with entries:
        return int(entries.count()), builder.refused


def create_app(databases: Databases, url: str | None, logs: Path) -> FastAPI:
    """Create the optimade-python-tools server for the entries of a database.

    Parameters
    ----------
    databases
        Databases to serve, read only.
    url
        Public URL if the server is behind a proxy; None: the URL of the request.
    logs
        Folder of the server log.
    """
    # The server logs its database URI. Registering an open client under a placeholder URI keeps
    # host and password out of the log.
    address = "mongodb://gan-htvs/"
    mongo._CLIENTS["mongodb", address] = databases.client(tz_aware=True)  # noqa: SLF001
    config = ServerConfig(
        debug=False,
        insert_test_data=False,
        database_backend="mongodb",
        mongo_uri=address,
        mongo_database=databases.settings.name,
        structures_collection=COLLECTION,
        links_collection="optimade_links",
        references_collection="optimade_references",
        base_url=url,
        log_level="warning",
        log_dir=logs,
        implementation={"name": "gan-htvs", "version": __version__},
        provider={
            "prefix": PREFIX,
            "name": "gan-htvs",
            "description": "Crystals proposed by campaigns, with computed properties",
        },
        provider_fields={
            "structures": [
                {key: value for key, value in extra._asdict().items() if value is not None}
                for extra in PROPERTIES
            ]
        },
    )
    # Log to the file only, not to the terminal.
    LOGGER.propagate = False
    app = create_optimade_app(config, logger_tag="gan-htvs")
    for kind in (RequestValidationError, OverflowError, RecursionError, ValueError):
        app.add_exception_handler(kind, bad_request)
    app.add_exception_handler(Exception, internal_error)
    app.middleware("http")(limit_query)
    for collection in app.state.entry_collections.values():
        collection.transformer = LiteralTransformer(mapper=collection.resource_mapper)
    return app


def bad_request(request: Request, error: Exception) -> Response:
    """Return a 400 response with the problem, without internals."""
    LOGGER.warning("%s: %s", request.url, error)
    detail = "a number is too large, a date is invalid, or parentheses are nested too deeply"
    if isinstance(error, RequestValidationError):
        problem = error.errors()[0]
        detail = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    return _error_response(request, error, 400, "Bad Request", detail)


async def limit_query(
    request: Request, respond: Callable[[Request], Awaitable[Response]]
) -> Response:
    """Reject overlong queries, which would take a database seconds to parse."""
    if len(request.url.query) <= MAX_QUERY_LENGTH:
        return await respond(request)
    detail = f"the query of a URL has at most {MAX_QUERY_LENGTH} characters"
    return _error_response(request, ValueError(), 414, "URI Too Long", detail)


def internal_error(request: Request, error: Exception) -> Response:
    """Return a 500 response without details, which are logged."""
    LOGGER.error("%s", request.url, exc_info=error)
    title = "Internal Server Error"
    return _error_response(request, error, 500, title, title)


def _error_response(
    request: Request, error: Exception, status: int, title: str, detail: str
) -> Response:
    problem = OptimadeError(detail=detail, status=str(status), title=title)
    return general_exception(request, error, status_code=status, errors=[problem])


class LiteralTransformer(MongoTransformer):
    """Transformer of filters that treats strings literally.

    The parent class treats them as regular expressions, which could block the database.
    """

    def fuzzy_string_op_rhs(self, arg: list[str]) -> dict[str, str]:
        """Escape the operand of CONTAINS, STARTS WITH and ENDS WITH."""
        condition: dict[str, str] = super().fuzzy_string_op_rhs([*arg[:-1], re.escape(arg[-1])])
        return condition
