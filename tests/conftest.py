"""Shared by all floors: the published data, and a real database server."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import yaml


@pytest.fixture(scope="session")
def free_port():
    """Find a port of this machine that nobody uses."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    return find


@pytest.fixture
def launchpad_file(tmp_path: Path, free_port) -> Path:
    """A my_launchpad.yaml of an embedded database that nobody has used yet."""
    path = tmp_path / "my_launchpad.yaml"
    settings = {
        "host": "127.0.0.1",
        "port": free_port(),
        "name": "gan_htvs_test",
        "embedded_storage": "database",
    }
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    """Spread tests over processes: a file stays together, and so do those that relax phases."""
    items.sort(key=lambda item: "integration" not in item.nodeid)  # the longest first
    for item in items:
        if "thermodynamics" in item.nodeid:
            group = "thermodynamics"
        elif "integration" in item.nodeid:
            group = item.name
        else:
            group = str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
