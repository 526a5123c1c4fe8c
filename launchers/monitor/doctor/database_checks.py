"""Checks of the databases of my_launchpad.yaml and of the settings of FireWorks and jobflow."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from datetime import UTC
from pathlib import Path
from statistics import median
from timeit import repeat
from typing import TYPE_CHECKING
from uuid import uuid4

from launchers.launchpad.foreign_settings import (
    FIREWORKS_FILE,
    FIREWORKS_VARIABLE,
    fireworks_files,
    jobflow_file,
)
from launchers.monitor.findings import Finding, failure, ok, skipped, warning

if TYPE_CHECKING:
    from launchers.launchpad.database import Databases

N_PINGS = 7
SLOW_SECONDS = 0.1
"""Round trip, s; a Firework needs dozens of them."""
LARGE_SKEW = 1.0
FATAL_SKEW = 30.0
"""Clock skew, s; the detection of lost runs and stale locks compares clocks."""
BLOB = "x" * 1_000_000

INDEXES = {
    "outputs": "uuid",
    "candidates": "candidate_id",
    "fireworks": "fw_id",
    "launches": "launch_id",
    "workflows": "nodes",
}
"""Collection -> field that needs an index; without it every query scans the collection."""


class DatabaseSession(ExitStack):
    """The databases of a launchpad file, opened by :meth:`reach` until the session ends."""

    databases: Databases | None = None
    """Databases that can be read and written; None before :meth:`reach`."""

    def reach(self, launchpad_file: Path) -> Finding:
        """Open the databases, write and delete a document, and time a ping; hide passwords."""
        from pymongo.errors import OperationFailure

        from launchers.launchpad.database import open_databases
        from launchers.launchpad.launchpad_file import PASSWORD_VARIABLE

        databases = self.enter_context(open_databases(launchpad_file))
        settings = databases.settings
        database = databases.launchpad().db
        scratch = database[f"doctor_{uuid4().hex}"]
        try:
            scratch.insert_one({"_id": 1})
            scratch.drop()
        except OperationFailure as error:
            return failure(
                f"cannot write to the database: {settings.redact(str(error)):.120}",
                f"grant the user the role readWrite on {settings.name}",
            )
        self.databases = databases
        seconds = median(repeat(lambda: database.command("ping"), number=1, repeat=N_PINGS))
        source = PASSWORD_VARIABLE if PASSWORD_VARIABLE in os.environ else "the file"
        access = "no password" if settings.password is None else f"password from {source}"
        if settings.embedded_storage is not None:
            access = f"embedded, data in {settings.embedded_storage}"
        what = (
            f"{launchpad_file}: {settings.name} at {settings.address}, {access}; writable, "
            f"round trip {seconds * 1e3:.1f} ms"
        )
        if seconds > SLOW_SECONDS:
            return warning(what, "run the database on a machine closer to the workers")
        return ok(what)


def campaign(databases: Databases, name: str) -> Finding:
    """Check that a campaign is registered in this database."""
    names = sorted(databases.launchpad().db["campaigns"].distinct("name"))
    if name in names:
        return ok(f"{name} is one of {len(names)} in this database")
    return warning(
        f"no {name!r}; this database has {', '.join(names) or 'no campaigns'}",
        "run `gan-htvs submit`, or use another launchpad file",
    )


def job_store(databases: Databases) -> Finding:
    """Store and load a document with a GridFS blob in the JobStore."""
    uuid = f"doctor-{uuid4()}"
    document = {"uuid": uuid, "index": 1, "output": {"blob": BLOB, "number": 1}}
    with databases.job_store() as store:
        start = time.perf_counter()
        try:
            store.update(document, key=["uuid", "index"], save={"data": "blob"})
            output = store.get_output(uuid, load=True)
        finally:
            store.remove_docs({"uuid": uuid})
        seconds = time.perf_counter() - start
    if output != document["output"]:
        return failure(
            "a blob read from GridFS differs from the one stored",
            "check the log and the disk of the server",
        )
    return ok(f"{len(BLOB) / 1e6:g} MB through GridFS and back in {seconds:.2f} s")


def indexes(databases: Databases, launchpad_file: Path) -> Finding:
    """Check that the collections have the indexes that queries use."""
    database = databases.launchpad().db
    present: list[str] = []
    missing: list[str] = []
    for name, field in INDEXES.items():
        if database[name].find_one({}, {"_id": 1}) is not None:
            indexed = [index["key"][0][0] for index in database[name].index_information().values()]
            (present if field in indexed else missing).append(f"{name}.{field}")
    if missing:
        return warning(
            f"missing on {', '.join(missing)}",
            f"run `gan-htvs build` and `lpad -l {launchpad_file} admin tuneup`",
        )
    return ok(", ".join(present) or "the database is empty; the first run creates them")


def clock(databases: Databases) -> Finding:
    """Compare the clocks of this machine and the server."""
    before = time.time()
    server = databases.launchpad().db.command("hello")["localTime"]
    after = time.time()
    return clock_skew(server.replace(tzinfo=UTC).timestamp() - (before + after) / 2)


def clock_skew(seconds: float) -> Finding:
    """Return a finding about the clock of the server, which is ahead by this many seconds."""
    what = f"the server is {abs(seconds):.2f} s {'ahead' if seconds > 0 else 'behind'}"
    fix = "synchronize both clocks (chrony or ntpd)"
    if abs(seconds) > FATAL_SKEW:
        return failure(f"{what}: running jobs would be treated as lost", fix)
    return warning(what, fix) if abs(seconds) > LARGE_SKEW else ok(what)


def fireworks_settings(launchpad_file: Path) -> Finding:
    """Check which FW_config.yaml is in effect, and which database `lpad` without -l uses."""
    from fireworks import fw_config

    files = fireworks_files()
    source = files[0] if files else f"no {FIREWORKS_FILE}"
    named = os.environ.get(FIREWORKS_VARIABLE)
    if named and Path(named).absolute() not in [path.absolute() for path in files[:1]]:
        return warning(
            f"{FIREWORKS_VARIABLE} names {named}, but FireWorks reads {source}",
            f"correct or unset {FIREWORKS_VARIABLE}, or delete the other file",
        )
    folder, file = Path(fw_config.CONFIG_FILE_DIR), Path(fw_config.LAUNCHPAD_LOC or launchpad_file)
    if (folder / "my_launchpad.yaml").is_file():
        file = folder / "my_launchpad.yaml"
    elif not folder.is_dir() or (fw_config.LAUNCHPAD_LOC and not file.is_file()):
        key = "LAUNCHPAD_LOC" if folder.is_dir() else "CONFIG_FILE_DIR"
        return warning(f"{source}: {key} does not exist", f"correct or delete {key}")
    if launchpad_file.exists() and not launchpad_file.samefile(file):
        return warning(
            f"{source}; FireWorks' own `lpad`, `qlaunch` and `rlaunch` without -l use {file}, "
            f"those of gan-htvs use {launchpad_file}",
            f"run them with -l {launchpad_file}, or correct {FIREWORKS_FILE}",
        )
    hours = fw_config.RUN_EXPIRATION_SECS / 3600
    return ok(f"{source}; a run counts as lost after {hours:g} h without a ping")


def jobflow_settings() -> Finding:
    """Report a jobflow.yaml, which has no effect here."""
    path = jobflow_file()
    if not path.exists():
        return skipped("no jobflow.yaml; not needed")
    return ok(f"{path} is not used: my_launchpad.yaml defines the JobStore")
