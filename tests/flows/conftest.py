from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """States of interrupted jobs are kept in a folder of the test, as are job directories."""
    folder = tmp_path / "scratch"
    monkeypatch.setenv("GAN_HTVS_SCRATCH", str(folder))
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    return folder
