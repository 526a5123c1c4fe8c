"""The databases of my_launchpad.yaml, and the settings of FireWorks and jobflow beside it."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, suppress
from datetime import UTC
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from launchers.doctor.check import Finding, failure, ok, skipped, warning
from launchers.doctor.machine import disk
from launchers.foreign_settings import (
    FIREWORKS_FILE,
    FIREWORKS_VARIABLE,
    fireworks_files,
    jobflow_file,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from pymongo.database import Database

    from launchers.database import Databases

N_PINGS = 7
SLOW_SECONDS = 0.1
"""A Firework costs dozens of round trips."""
SKEW_SEEN = 1.0
SKEW_FATAL = 30.0
"""Difference of the clocks, s; what takes a job for lost or a lock for abandoned compares them."""
BLOB = "x" * 1_000_000

INDEXES = {
    "outputs": "uuid",
    "candidates": "candidate_id",
    "fireworks": "fw_id",
    "launches": "launch_id",
    "workflows": "nodes",
}
"""Collection -> field without whose index every query reads all of it."""


class DatabaseSession:
    """The databases of a launchpad file, opened once for all checks of them.

    An embedded server runs from :meth:`server` to the end of the session.
    """

    def __init__(self, launchpad_file: Path) -> None:
        self.launchpad_file = launchpad_file
        self._stack = ExitStack()
        self._is_readable = False
        self._databases: Databases | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def file(self) -> Finding:
        """Read the launchpad file; passwords and URIs are never shown."""
        from launchers.launchpad_file import PASSWORD_VARIABLE, LaunchpadFile

        if not self.launchpad_file.exists():
            return failure(
                f"{self.launchpad_file}: not found",
                "`gan-htvs init` writes one for the embedded database; --launchpad names another",
            )
        settings = LaunchpadFile.read(self.launchpad_file)
        self._is_readable = True
        where = f"{self.launchpad_file}: database {settings.name} at {settings.address}"
        if settings.embedded_storage is not None:
            return ok(f"{where}, embedded, data in {settings.embedded_storage}")
        if PASSWORD_VARIABLE in os.environ:
            return ok(f"{where}, password from {PASSWORD_VARIABLE}")
        return ok(f"{where}{', password in the file' if settings.password else ', no password'}")

    def server(self) -> Finding:
        """Reach the server, write, read, delete, and time it."""
        from pymongo.errors import OperationFailure, PyMongoError

        from launchers.database import open_databases

        if not self._is_readable:
            return _unreachable()
        databases = self._stack.enter_context(open_databases(self.launchpad_file))
        database = self._mongo(databases)
        scratch = database[f"doctor_{uuid4().hex}"]
        try:
            scratch.insert_one({"_id": 1})
            is_kept = scratch.find_one({"_id": 1}) is not None
            scratch.delete_one({"_id": 1})
        except OperationFailure as error:
            return failure(
                f"the database refuses to be written to: {error!s:.120}",
                f"give the user the role readWrite on {databases.settings.name}",
            )
        finally:
            with suppress(PyMongoError):
                scratch.drop()
        if not is_kept:
            return failure(
                "what was written cannot be read back",
                "read from the primary and write with w: 1 (mongoclient_kwargs)",
            )
        self._databases = databases
        seconds = []
        for _ in range(N_PINGS):
            start = time.perf_counter()
            database.command("ping")
            seconds.append(time.perf_counter() - start)
        return round_trip(median(seconds))

    def campaign(self, name: str) -> Finding:
        """See that workers of this database will find jobs of a campaign."""
        if self._databases is None:
            return _unreachable()
        known = sorted(self._mongo(self._databases)["campaigns"].distinct("name"))
        if name in known:
            return ok(f"{name} is one of {len(known)} here")
        return warning(
            f"no {name!r} here; this database has {', '.join(known) or 'no campaigns'}",
            f"`gan-htvs submit`, or another launchpad file than {self.launchpad_file}",
        )

    def job_store(self) -> Finding:
        """Send a document with a blob through the JobStore and GridFS, and back."""
        if self._databases is None:
            return _unreachable()
        uuid = f"doctor-{uuid4()}"
        document = {"uuid": uuid, "index": 1, "output": {"blob": BLOB, "number": 1}}
        with self._databases.job_store() as store:
            try:
                start = time.perf_counter()
                store.update(document, key=["uuid", "index"], save={"data": "blob"})
                output = store.get_output(uuid, load=True)
                seconds = time.perf_counter() - start
            finally:
                store.remove_docs({"uuid": uuid})
        if output != document["output"]:
            return failure(
                "a blob came back from GridFS changed", "see the log and the disk of the server"
            )
        return ok(f"{len(BLOB) / 1e6:g} MB through GridFS and back in {seconds:.2f} s")

    def indexes(self) -> Finding:
        """See that queries need not read whole collections."""
        if self._databases is None:
            return _unreachable()
        database = self._mongo(self._databases)
        used = [name for name in INDEXES if database[name].find_one({}, {"_id": 1})]
        if not used:
            return ok("the database is empty; the first run makes them")
        missing = [
            f"{name}.{INDEXES[name]}"
            for name in used
            if INDEXES[name] not in _indexed_fields(database[name].index_information())
        ]
        if missing:
            return warning(
                f"none on {', '.join(missing)}",
                f"`gan-htvs build` and `lpad -l {self.launchpad_file} admin tuneup` make them",
            )
        return ok(", ".join(f"{name}.{INDEXES[name]}" for name in used))

    def clock(self) -> Finding:
        """Compare this machine's clock with the server's."""
        if self._databases is None:
            return _unreachable()
        before = time.time()
        local = self._mongo(self._databases).command("hello").get("localTime")
        after = time.time()
        if local is None:
            return skipped("the server does not tell its time")
        return clock_skew(local.replace(tzinfo=UTC).timestamp() - (before + after) / 2)

    def disk(self) -> Finding:
        """See whether an embedded database has space to grow."""
        storage = self._databases.settings.embedded_storage if self._databases else None
        return skipped("not on this machine") if storage is None else disk(storage)

    @staticmethod
    def _mongo(databases: Databases) -> Database[Any]:
        return databases.launchpad().db


def round_trip(seconds: float) -> Finding:
    """Judge the time of one question and answer."""
    found = f"reachable and writable, round trip {seconds * 1e3:.1f} ms"
    if seconds > SLOW_SECONDS:
        return warning(found, "put the database on a machine near the workers")
    return ok(found)


def clock_skew(seconds: float) -> Finding:
    """Judge how far the server's clock is ahead of this one."""
    found = f"the server is {abs(seconds):.2f} s {'ahead' if seconds > 0 else 'behind'}"
    cure = "synchronise both clocks (chrony or ntpd)"
    if abs(seconds) > SKEW_FATAL:
        return failure(f"{found}: running jobs will be taken for lost", cure)
    return warning(found, cure) if abs(seconds) > SKEW_SEEN else ok(found)


def fireworks_settings(launchpad_file: Path) -> Finding:
    """Check which FW_config.yaml is in effect, and what FireWorks' own commands act on."""
    from fireworks import fw_config

    files = fireworks_files()
    source = files[0] if files else f"no {FIREWORKS_FILE}"
    named = os.environ.get(FIREWORKS_VARIABLE)
    if named and not Path(named).is_file():
        return warning(
            f"{FIREWORKS_VARIABLE} names {named}, which is not there",
            f"correct or unset {FIREWORKS_VARIABLE}",
        )
    if named and not files[0].samefile(named):
        return warning(
            f"FireWorks reads {files[0]}, not {named}, which {FIREWORKS_VARIABLE} names",
            f"delete {files[0]}, or unset {FIREWORKS_VARIABLE}",
        )
    if not Path(fw_config.CONFIG_FILE_DIR).is_dir():
        return warning(
            f"{source}: CONFIG_FILE_DIR ({fw_config.CONFIG_FILE_DIR}) is no folder",
            "correct or delete CONFIG_FILE_DIR",
        )
    theirs = Path(fw_config.CONFIG_FILE_DIR, "my_launchpad.yaml")
    if not theirs.is_file():
        theirs = Path(fw_config.LAUNCHPAD_LOC or launchpad_file)
    if not theirs.is_file() and fw_config.LAUNCHPAD_LOC:
        return warning(f"{source}: LAUNCHPAD_LOC names no file", "correct or delete LAUNCHPAD_LOC")
    if launchpad_file.exists() and not launchpad_file.samefile(theirs):
        return warning(
            f"{source}; FireWorks' own `lpad`, `qlaunch` and `rlaunch` without -l act on {theirs}, "
            f"those of gan-htvs on {launchpad_file}",
            f"call them with -l {launchpad_file}, or correct {FIREWORKS_FILE}",
        )
    hours = fw_config.RUN_EXPIRATION_SECS / 3600
    return ok(f"{source}; a run counts as lost after {hours:g} h without a ping")


def jobflow_settings() -> Finding:
    """Check whether there is a jobflow.yaml, which has no effect here."""
    path = jobflow_file()
    if not path.exists():
        return skipped("no jobflow.yaml, and none is needed")
    return ok(f"{path} is for other programs: the JobStore here is that of my_launchpad.yaml")


def _unreachable() -> Finding:
    return skipped("no database to look at")


def _indexed_fields(information: Mapping[str, Any]) -> set[str]:
    """Tell the fields that an index begins with."""
    return {index["key"][0][0] for index in information.values()}
