from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import psutil
import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from gan_htvs.core.errors import UserError
from launchers.launchpad.embedded import STOP_TIMEOUT, EmbeddedServer


@pytest.fixture
def server(tmp_path, free_port) -> EmbeddedServer:
    return EmbeddedServer(tmp_path / "database", port=free_port())


def connected(server: EmbeddedServer) -> MongoClient:
    return MongoClient("127.0.0.1", server.port, serverSelectionTimeoutMS=2000)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_data_persist_after_the_server_stops(server):
    with server.serving(), connected(server) as client:
        client.lab.notes.insert_one({"formula": "MgMn2O4"})
    assert not is_open(server.port)
    with server.serving(), connected(server) as client:
        assert client.lab.notes.count_documents({"formula": "MgMn2O4"}) == 1


def test_last_client_stops_the_server(server):
    with server.serving():
        with server.serving():
            assert is_open(server.port)
        assert is_open(server.port)
    assert not is_open(server.port)


def test_killed_client_does_not_keep_the_server_running(server):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from launchers.launchpad.embedded import EmbeddedServer\n"
        "with EmbeddedServer(Path(sys.argv[1]), port=int(sys.argv[2])).serving():\n"
        "    print('up', flush=True); time.sleep(60)"
    )
    client = subprocess.Popen(
        [sys.executable, "-c", code, str(server.storage), str(server.port)], stdout=subprocess.PIPE
    )
    assert client.stdout.readline() == b"up\n"
    client.kill()
    client.wait()
    assert is_open(server.port)
    with server.serving():
        assert is_open(server.port)
    assert not is_open(server.port)


def test_acknowledged_writes_survive_a_killed_server(server):
    acknowledged = []
    with server.serving(), connected(server) as client:
        process = psutil.Process(server.process.pid)
        threading.Timer(1.0, process.kill).start()
        with contextlib.suppress(PyMongoError):
            while True:
                client.lab.numbers.insert_one({"_id": len(acknowledged)})
                acknowledged.append(len(acknowledged))
    assert len(acknowledged) > 10
    with server.serving(), connected(server) as client:
        stored = {document["_id"] for document in client.lab.numbers.find()}
    assert set(acknowledged) <= stored


def test_client_waits_for_busy_server(server):
    with server.serving():
        process = server.process
        process.suspend()
        threading.Timer(1.5, process.resume).start()
        with server.serving(), connected(server) as client:
            client.admin.command("ping")
        assert server.process == process


def test_lost_signal_is_repeated(server, monkeypatch):
    terminate = psutil.Process.terminate
    signals = []

    def lose_first(process):
        if signals:
            terminate(process)
        signals.append(process)

    monkeypatch.setattr(psutil.Process, "terminate", lose_first)
    start = time.monotonic()
    with server.serving():
        process = server.process
    assert len(signals) > 1
    assert not process.is_running()
    assert time.monotonic() - start < STOP_TIMEOUT


def test_hanging_server_is_a_user_error(server, monkeypatch):
    with server.serving():
        process = server.process
        process.suspend()
        monkeypatch.setattr("launchers.launchpad.embedded.START_TIMEOUT", 0.1)
        with pytest.raises(UserError, match=f"process {process.pid}"):
            server.serving().__enter__()
        process.resume()


def test_server_on_another_port_is_a_user_error(server, free_port):
    with server.serving():
        moved = replace(server, port=free_port())
        with pytest.raises(UserError, match=f"runs on port {server.port}"):
            moved.serving().__enter__()


def test_port_in_use_is_a_user_error(server):
    with socket.socket() as other:
        other.bind(("127.0.0.1", server.port))
        other.listen()
        with pytest.raises(UserError, match=f"Port {server.port} is in use"):
            server.serving().__enter__()


def test_unwritable_storage_is_a_user_error(tmp_path, free_port):
    blocker = tmp_path / "file"
    blocker.write_text("")
    server = EmbeddedServer(blocker / "database", port=free_port())
    with pytest.raises(UserError, match="cannot be written"):
        server.serving().__enter__()


def test_storage_without_locks_is_a_user_error(server, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError) as raised:
        server.serving().__enter__()
    assert str(server.storage) in str(raised.value)
    assert "embedded_storage" in str(raised.value)
