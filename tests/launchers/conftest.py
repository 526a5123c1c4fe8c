from __future__ import annotations

import pytest

from launchers.launchpad.database import open_databases


@pytest.fixture
def databases(launchpad_file):
    with open_databases(launchpad_file) as databases:
        yield databases


@pytest.fixture
def launchpad(databases):
    launchpad = databases.launchpad()
    launchpad.initialize()
    return launchpad


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Set PATH to an empty folder; return a function that adds a shell script to it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def write(name: str, script: str = "exit 0"):
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return write
