from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Empty scratch directory of the test; the working directory is another one."""
    folder = tmp_path / "scratch"
    monkeypatch.setenv("GAN_HTVS_SCRATCH", str(folder))
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    return folder
