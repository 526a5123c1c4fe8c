from __future__ import annotations

import pytest
from typer.testing import CliRunner

from launchers.cli.main import app


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder with a space in its name, as a user has it, and the command line in it."""
    folder = tmp_path / "my search"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "my_launchpad.yaml").write_text("{host: mongo.example.org, name: search}\n")
    return folder


@pytest.fixture
def call():
    return lambda *arguments: CliRunner().invoke(app, ["queue", *map(str, arguments)])


@pytest.fixture
def files(site, call):
    """Render files for a batch system and give their folder."""

    def render(scheduler="slurm", *options):
        chosen = options or ("--queue", "batch", "gpu=a100")
        assert call("init", "--scheduler", scheduler, *chosen).exit_code == 0
        return site / "queue"

    return render
