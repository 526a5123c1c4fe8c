"""OPTIMADE servers on this machine, with entries like those of public databases."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import uvicorn
from optimade.adapters.structures.pymatgen import from_pymatgen
from optimade.server.config import ServerConfig
from optimade.server.create_app import create_app
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from fastapi import FastAPI
    from pymatgen.core import Structure

PAGE_LIMIT = 2
"""Entries per page, so that small responses have several pages."""


@dataclass
class Server:
    """A running server.

    Attributes
    ----------
    url
        Base URL.
    queries
        Filters of the received requests; one for each page.
    failing
        Number of the first request that fails, counted from 1; None: all succeed.
    status
        Status code of failing requests.
    """

    url: str
    queries: list[str] = field(default_factory=list)
    failing: int | None = None
    status: int = 400

    @property
    def n_requests(self) -> int:
        """Number of received requests."""
        return len(self.queries)


def entry(name: str, structure: Structure, **properties: Any) -> dict[str, Any]:
    """Build an entry with properties of its provider, without their prefix."""
    attributes = from_pymatgen(structure).model_dump(mode="json")
    return attributes | properties | {"id": name, "last_modified": datetime(2026, 1, 1, tzinfo=UTC)}


@contextmanager
def running(app: FastAPI, port: int) -> Iterator[None]:
    """Run an application in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield
    server.should_exit = True
    thread.join()


@contextmanager
def serving(
    entries: Sequence[dict[str, Any]], prefix: str, fields: Sequence[str], port: int, logs: Path
) -> Iterator[Server]:
    """Run the server of optimade-python-tools in a thread.

    Parameters
    ----------
    entries
        Documents of :func:`entry`.
    prefix
        Prefix of the provider, such as ``mp``.
    fields
        Names of its properties, without prefix.
    port
        Free port.
    logs
        Folder of the log.
    """
    config = ServerConfig(
        debug=False,
        insert_test_data=False,
        database_backend="mongomock",
        mongo_database=f"optimade_{uuid4().hex}",
        log_level="warning",
        log_dir=logs,
        provider={"prefix": prefix, "name": prefix, "description": "a test"},
        provider_fields={"structures": list(fields)},
    )
    app = create_app(config, logger_tag=prefix)
    app.state.entry_collections["structures"].insert(list(entries))
    state = Server(f"http://127.0.0.1:{port}")

    @app.middleware("http")
    async def fail(request, respond):
        if "structures" not in request.url.path:
            return await respond(request)
        state.queries.append(request.query_params.get("filter", ""))
        if state.failing is not None and state.n_requests >= state.failing:
            error = {"title": "Failure", "detail": "the database is away", "status": "500"}
            return JSONResponse({"errors": [error]}, status_code=state.status)
        if "page_limit" not in request.query_params:  # the default is not part of the config
            request.scope["query_string"] += f"&page_limit={PAGE_LIMIT}".encode()
        return await respond(request)

    with running(app, port):
        yield state
