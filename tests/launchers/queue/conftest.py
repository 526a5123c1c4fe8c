from __future__ import annotations

import pytest
from typer.testing import CliRunner

from launchers.cli.main import app


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Return a folder with a space in its name, which is the working directory."""
    folder = tmp_path / "my search"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "my_launchpad.yaml").write_text("{host: mongo.example.org, name: search}\n")
    return folder


@pytest.fixture
def call():
    """Run ``gan-htvs queue`` with arguments."""
    return lambda *arguments: CliRunner().invoke(app, ["queue", *map(str, arguments)])


@pytest.fixture
def files(site, call):
    """Render files for a batch system and return their folder."""

    def render(scheduler="slurm", *options):
        options = options or ("--queue", "batch", "gpu=a100")
        assert call("init", "--scheduler", scheduler, *options).exit_code == 0
        return site / "queue"

    return render
