"""Settings of atomate2 that change the level of theory are errors before any job is queued."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from gan_htvs.campaign.model import Campaign
from gan_htvs.core.errors import UserError
from launchers.cli.common import EXIT_USER_ERROR
from launchers.cli.main import app
from launchers.monitor.doctor.vasp_checks import requirements, settings

CAMPAIGN = {
    "name": "mg-o",
    "chemical_system": {"caps": {"Mg": 1, "O": 1}},
    "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
    "prescreen": None,
    "sampling": {"proposers": ["random"], "structures_per_composition": 1},
}


@pytest.fixture
def atomate2(tmp_path, monkeypatch):
    """Return a function that writes the settings file of atomate2."""
    path = tmp_path / "atomate2.yaml"
    monkeypatch.setenv("ATOMATE2_CONFIG_FILE", str(path))

    def write(**values):
        path.write_text(yaml.safe_dump(values))
        return path

    return write


@pytest.fixture
def call(tmp_path):
    def invoke(command, *options, engine="vasp"):
        engines = {"energy": {"name": engine}, "band_gap": {"name": engine}}
        campaign, launchpad = tmp_path / "campaign.yaml", tmp_path / "my_launchpad.yaml"
        campaign.write_text(yaml.safe_dump(CAMPAIGN | {"engines": engines}))
        launchpad.write_text(yaml.safe_dump({"host": "127.0.0.1", "port": 28_110, "name": "none"}))
        place = ("-w", tmp_path) if command == "rehearse" else ("-l", launchpad)
        words = [command, str(campaign), *map(str, place), *options]
        return CliRunner().invoke(app, words)

    return invoke


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a command in a new process, without atomate2 imported."""

    def invoke(command, *, engine, launchpad=None):
        gap = "vasp" if engine == "vasp" else "none"
        engines = {"energy": {"name": engine}, "band_gap": {"name": gap}}
        campaign = tmp_path / "campaign.yaml"
        campaign.write_text(yaml.safe_dump(CAMPAIGN | {"engines": engines}))
        if launchpad is None:
            launchpad = tmp_path / "my_launchpad.yaml"
            launchpad.write_text(
                yaml.safe_dump({"host": "127.0.0.1", "port": 28_110, "name": "none"})
            )
        place = ("-w", tmp_path) if command == "rehearse" else ("-l", launchpad)
        needs_file = command in {"run", "submit", "rehearse", "doctor"}
        words = [command, *([campaign] if needs_file else []), *place]
        return subprocess.run(
            [sys.executable, "-m", "launchers.cli.main", *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )

    return invoke


@pytest.mark.parametrize("command", ["run", "submit", "rehearse"])
@pytest.mark.parametrize("tag", ["GGA", "encut", "MAGMOM"])
def test_tag_that_changes_the_level_of_theory_is_a_user_error(atomate2, call, command, tag):
    path = atomate2(VASP_INCAR_UPDATES={"NCORE": 4, tag: 300})
    result = call(command)
    assert result.exit_code == EXIT_USER_ERROR, result.stderr
    message = " ".join(result.stderr.split())
    for part in (path.name, "VASP_INCAR_UPDATES", tag.upper()):
        assert part in message
    assert "NCORE" not in message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    ("command", "content"),
    [
        ("run", "VASP_INCAR_UPDATES: {NCORE: 4"),
        ("submit", "- NCORE"),
        ("rehearse", "VASP_COMMAND: vasp_std"),
        ("doctor", "VASP_CMD: [srun, vasp_std]"),
    ],
)
def test_invalid_settings_are_an_error_with_vasp(atomate2, run, command, content):
    path = atomate2()
    path.write_text(content)
    result = run(command, engine="vasp")
    assert result.returncode == (1 if command == "doctor" else EXIT_USER_ERROR), result.stderr
    output = "".join((result.stdout + result.stderr).split())
    assert path.name in output
    assert "Traceback" not in output
    assert "thecheckraised" not in output


@pytest.mark.parametrize("command", ["retry", "recover", "submit"])
def test_invalid_settings_are_ignored_without_vasp(atomate2, run, launchpad_file, command):
    atomate2().write_text("VASP_INCAR_UPDATES: {NCORE: 4")
    result = run(command, engine="chgnet", launchpad=launchpad_file)
    assert "Traceback" not in result.stderr
    assert "atomate2" not in result.stderr


def doctor(call):
    checks = json.loads(call("doctor", "--json").stdout)
    return next(check for check in checks if check["where"] == "atomate2 settings")


def test_doctor_reports_forbidden_tag_as_failure(atomate2, call):
    path = atomate2(VASP_INCAR_UPDATES={"ISPIN": 1})
    check = doctor(call)
    assert check["severity"] == "failure"
    assert str(path) in check["what"]
    assert "ISPIN" in check["what"]


def test_doctor_shows_allowed_tags(atomate2, call):
    path = atomate2(VASP_INCAR_UPDATES={"NCORE": 4, "KPAR": 2})
    check = doctor(call)
    assert check["severity"] == "ok"
    for part in (str(path), "NCORE = 4", "KPAR = 2"):
        assert part in check["what"]


@pytest.mark.parametrize("tag", ["LASPH", "lsol", "PSTRESS", "EFIELD", "NSW", "isif", "IBRION"])
def test_tags_of_hamiltonian_or_relaxation_are_forbidden(atomate2, tag):
    atomate2(VASP_INCAR_UPDATES={tag: 0, "NCORE": 4, "ALGO": "All", "NELM": 200})
    with pytest.raises(UserError, match=f"VASP_INCAR_UPDATES: {tag.upper()} would"):
        settings()


def test_environment_variable_with_forbidden_tag_is_named(atomate2, monkeypatch):
    atomate2(VASP_INCAR_UPDATES={"NCORE": 4})
    monkeypatch.setenv("ATOMATE2_VASP_INCAR_UPDATES", '{"METAGGA": "SCAN"}')
    with pytest.raises(UserError, match=r"ATOMATE2_VASP_INCAR_UPDATES.*METAGGA"):
        settings()


def test_settings_are_not_read_without_vasp(atomate2):
    atomate2(VASP_INCAR_UPDATES={"GGA": "PS"})
    assert requirements(Campaign.model_validate(CAMPAIGN)) == []
    for engine in ("energy", "band_gap"):
        campaign = CAMPAIGN | {"engines": {engine: {"name": "vasp"}}}
        with pytest.raises(UserError, match="GGA"):
            requirements(Campaign.model_validate(campaign))
