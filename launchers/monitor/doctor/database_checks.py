"""The databases of my_launchpad.yaml, and the settings of FireWorks and jobflow beside it."""

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
"""A Firework costs dozens of round trips."""
LARGE_SKEW = 1.0
FATAL_SKEW = 30.0
"""Difference of the clocks, s; finding lost runs and stale locks compares them."""
BLOB = "x" * 1_000_000

INDEXES = {
    "outputs": "uuid",
    "candidates": "candidate_id",
    "fireworks": "fw_id",
    "launches": "launch_id",
    "workflows": "nodes",
}
"""Collection -> field without whose index every query reads the whole collection."""


class DatabaseSession(ExitStack):
    """The databases of a launchpad file, opened by :meth:`reach` until the session ends."""

    databases: Databases | None = None
    """None until they are known to be readable and writable."""

    def reach(self, launchpad_file: Path) -> Finding:
        """Open the databases, write, delete, and time a ping; passwords are never shown."""
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
                f"the database refuses to be written to: {settings.redact(str(error)):.120}",
                f"give the user the role readWrite on {settings.name}",
            )
        self.databases = databases
        seconds = median(repeat(lambda: database.command("ping"), number=1, repeat=N_PINGS))
        if settings.embedded_storage is not None:
            access = f"embedded, data in {settings.embedded_storage}"
        elif settings.password is not None:
            variable = PASSWORD_VARIABLE if PASSWORD_VARIABLE in os.environ else "the file"
            access = f"password from {variable}"
        else:
            access = "no password"
        what = (
            f"{launchpad_file}: {settings.name} at {settings.address}, {access}; writable, "
            f"round trip {seconds * 1e3:.1f} ms"
        )
        if seconds > SLOW_SECONDS:
            return warning(what, "put the database on a machine near the workers")
        return ok(what)


def campaign(databases: Databases, name: str) -> Finding:
    """Check that workers of this database will find jobs of a campaign."""
    known = sorted(databases.launchpad().db["campaigns"].distinct("name"))
    if name in known:
        return ok(f"{name} is one of {len(known)} here")
    return warning(
        f"no {name!r} here; this database has {', '.join(known) or 'no campaigns'}",
        "`gan-htvs submit`, or name another launchpad file",
    )


def job_store(databases: Databases) -> Finding:
    """Store and load a document with a blob in GridFS through the JobStore."""
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
            "a blob came back from GridFS changed", "see the log and the disk of the server"
        )
    return ok(f"{len(BLOB) / 1e6:g} MB through GridFS and back in {seconds:.2f} s")


def indexes(databases: Databases, launchpad_file: Path) -> Finding:
    """Check that queries need not read whole collections."""
    database = databases.launchpad().db
    present: list[str] = []
    missing: list[str] = []
    for name, field in INDEXES.items():
        if database[name].find_one({}, {"_id": 1}) is None:
            continue
        indexed = [index["key"][0][0] for index in database[name].index_information().values()]
        (present if field in indexed else missing).append(f"{name}.{field}")
    if missing:
        return warning(
            f"none on {', '.join(missing)}",
            f"`gan-htvs build` and `lpad -l {launchpad_file} admin tuneup` create them",
        )
    return ok(", ".join(present) or "the database is empty; the first run creates them")


def clock(databases: Databases) -> Finding:
    """Compare this machine's clock with the server's."""
    before = time.time()
    server = databases.launchpad().db.command("hello")["localTime"]
    after = time.time()
    return clock_skew(server.replace(tzinfo=UTC).timestamp() - (before + after) / 2)


def clock_skew(seconds: float) -> Finding:
    """Judge by how many seconds the server's clock is ahead of this one."""
    what = f"the server is {abs(seconds):.2f} s {'ahead' if seconds > 0 else 'behind'}"
    fix = "synchronize both clocks (chrony or ntpd)"
    if abs(seconds) > FATAL_SKEW:
        return failure(f"{what}: running jobs would be taken for lost", fix)
    return warning(what, fix) if abs(seconds) > LARGE_SKEW else ok(what)


def fireworks_settings(launchpad_file: Path) -> Finding:
    """Check which FW_config.yaml is in effect, and on which database `lpad` without -l acts."""
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
    is_missing = {
        "CONFIG_FILE_DIR": not folder.is_dir(),
        "LAUNCHPAD_LOC": bool(fw_config.LAUNCHPAD_LOC) and not file.is_file(),
    }
    if missing := [key for key in is_missing if is_missing[key]]:
        keys = " and ".join(missing)
        return warning(f"{source}: {keys} names nothing that exists", f"correct or delete {keys}")
    if launchpad_file.exists() and not launchpad_file.samefile(file):
        return warning(
            f"{source}; FireWorks' own `lpad`, `qlaunch` and `rlaunch` without -l act on {file}, "
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
