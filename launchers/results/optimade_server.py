"""Candidates for other programs, by the OPTIMADE standard."""

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
"""Before the names of :data:`gan_htvs.results.builders.optimade.PROPERTIES`."""

LONGEST = 4000
"""Characters of the query of an address."""

LOGGER = logging.getLogger("optimade.gan-htvs")

INDEXED = (
    *("id", "elements", "nelements", "chemical_formula_reduced"),
    *("stage", "energy_above_hull", "pourbaix_min", "band_gap"),
)
"""Of the entries."""


def build_entries(
    databases: Databases, on_progress: Callable[[str, int, int], None] | None = None
) -> tuple[int, dict[str, str]]:
    """Bring the entries up to date with the candidates.

    ``on_progress`` is called with what is built, the number done and the total.

    Returns
    -------
    How many there are, and why candidates have none, by id.
    """
    candidates = databases.store("candidates", key="candidate_id")
    entries = databases.store(COLLECTION, key="candidate_id")
    with entries:
        entries.ensure_index("candidate_id", unique=True)
        for field in INDEXED:
            entries.ensure_index(field)
    builder = OptimadeBuilder(candidates, entries)
    run_builder(builder, "entries", on_progress)
    builder.finalize()  # takes out whose candidates are gone
    with entries:
        return int(entries.count()), builder.refused


def create_app(databases: Databases, url: str | None, logs: Path) -> FastAPI:
    """Make the server of optimade-python-tools for the entries of a database.

    Parameters
    ----------
    databases
        What it serves; it only reads.
    url
        By which others reach it through a proxy; None: as they ask.
    logs
        Folder of its log.
    """
    # It writes the address of its database into its log; a client that is there already needs
    # neither a password in it nor a host.
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
            "description": "Crystals that campaigns proposed, and what was computed of them",
        },
        provider_fields={
            "structures": [
                {key: value for key, value in each._asdict().items() if value is not None}
                for each in PROPERTIES
            ]
        },
    )
    # Its log goes into a file, not between the words of ours.
    LOGGER.propagate = False
    app = create_optimade_app(config, logger_tag="gan-htvs")
    for kind in (RequestValidationError, OverflowError, RecursionError, ValueError):
        app.add_exception_handler(kind, refuse)
    app.add_exception_handler(Exception, conceal)
    app.middleware("http")(bound)
    for collection in app.state.entry_collections.values():
        collection.transformer = LiteralTransformer(mapper=collection.resource_mapper)
    return app


def refuse(request: Request, error: Exception) -> Response:
    """Return what is wrong with a request, without where that was found."""
    LOGGER.warning("%s: %s", request.url, error)
    detail = "a number is too large, a date is none, or parentheses are nested too deeply"
    if isinstance(error, RequestValidationError):
        found = error.errors()[0]
        detail = f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
    return _answer(request, error, 400, "Bad Request", detail)


async def bound(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse what takes a database seconds to read."""
    if len(request.url.query) <= LONGEST:
        return await answer(request)
    detail = f"the query of an address has at most {LONGEST} characters"
    return _answer(request, ValueError(), 414, "URI Too Long", detail)


def conceal(request: Request, error: Exception) -> Response:
    """Tell that something went wrong inside, and nothing of it."""
    LOGGER.error("%s", request.url, exc_info=error)
    title = "Internal Server Error"
    return _answer(request, error, 500, title, title)


def _answer(request: Request, error: Exception, status: int, title: str, detail: str) -> Response:
    problem = OptimadeError(detail=detail, status=str(status), title=title)
    return general_exception(request, error, status_code=status, errors=[problem])


class LiteralTransformer(MongoTransformer):
    """Filters whose strings are strings.

    Theirs are read as regular expressions, with which anybody could keep a database busy for ever.
    """

    def fuzzy_string_op_rhs(self, arg: list[str]) -> dict[str, str]:
        """Look for what CONTAINS, STARTS WITH and ENDS WITH name."""
        condition: dict[str, str] = super().fuzzy_string_op_rhs([*arg[:-1], re.escape(arg[-1])])
        return condition
