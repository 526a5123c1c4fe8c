"""Environment of processes during a rehearsal, and its restoration."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from pymatgen.core import SETTINGS

from gan_htvs.core.errors import UserError
from launchers.rehearsal.environment import COMMAND, stand_in
from launchers.rehearsal.failure_modes import FAIL_VARIABLE
from launchers.rehearsal.labels import PROGRAM

FOLDER = "PMG_VASP_PSP_DIR"
PRINT_SETTINGS = """
import os
from atomate2 import SETTINGS as atomate2
from pymatgen.core import SETTINGS as pymatgen
for value in (atomate2.VASP_CMD, atomate2.VASP_GAMMA_CMD, pymatgen["PMG_VASP_PSP_DIR"]):
    print(value)
print(os.environ["GAN_HTVS_VASP_PROGRAM"])
"""


def test_stand_in_overrides_settings_of_the_user(tmp_path, monkeypatch):
    (tmp_path / "atomate2.yaml").write_text("VASP_CMD: srun vasp_std\n")
    (tmp_path / "pmgrc.yaml").write_text(f"{FOLDER}: /licensed\n")
    monkeypatch.setenv("ATOMATE2_CONFIG_FILE", str(tmp_path / "atomate2.yaml"))
    monkeypatch.setenv("PMG_CONFIG_FILE", str(tmp_path / "pmgrc.yaml"))
    with stand_in(tmp_path / "potcars", ["O"], "PBE"):
        run = [sys.executable, "-c", PRINT_SETTINGS]
        printed = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == [COMMAND, COMMAND, str(tmp_path / "potcars"), PROGRAM]


def test_environment_and_settings_are_restored(tmp_path, monkeypatch):
    monkeypatch.setitem(SETTINGS, FOLDER, "mine")
    monkeypatch.delenv(FOLDER, raising=False)
    monkeypatch.setenv("ATOMATE2_VASP_CMD", "srun vasp_std")
    before, settings = dict(os.environ), dict(SETTINGS)
    with stand_in(tmp_path, ["O"], "PBE", "killed=0.25"):
        assert SETTINGS[FOLDER] == os.environ[FOLDER] == str(tmp_path)
        assert os.environ["ATOMATE2_VASP_CMD"] == COMMAND
        assert os.environ[FAIL_VARIABLE] == "killed=0.25"
    assert (dict(os.environ), dict(SETTINGS)) == (before, settings)


def test_failures_of_the_environment_are_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv(FAIL_VARIABLE, "hang=0.5")
    with stand_in(tmp_path, ["O"], "PBE"):
        assert os.environ[FAIL_VARIABLE] == "hang=0.5"
    with stand_in(tmp_path, ["O"], "PBE", ""):
        assert os.environ[FAIL_VARIABLE] == ""
    monkeypatch.setenv(FAIL_VARIABLE, "hang=often")
    with pytest.raises(UserError, match=FAIL_VARIABLE), stand_in(tmp_path, ["O"], "PBE"):
        pass
