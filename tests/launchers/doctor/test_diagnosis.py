from __future__ import annotations

import json
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import yaml
from typer.testing import CliRunner

from launchers.cli import app
from launchers.doctor import machine

runner = CliRunner()

SEARCH = {
    "name": "search",
    "chemical_system": {"caps": {"Mg": 2, "Mn": 2, "O": 4}},
    "oxidation_states": {"Mg": [2, 2], "Mn": [2, 4], "O": [-2, -2]},
    "prescreen": None,
}


@pytest.fixture
def doctor(launchpad_file, tmp_path, monkeypatch):
    """Call the doctor from an empty folder; the exit code, and the checks by name."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    plenty = SimpleNamespace(free=100 * machine.GIB)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: plenty)

    def call(*arguments: object):
        words = [str(argument) for argument in ("doctor", "-l", launchpad_file, *arguments)]
        result = runner.invoke(app, [*words, "--json"])
        return result.exit_code, {check["name"]: check for check in json.loads(result.stdout)}

    return call


@pytest.fixture
def no_gpaw(monkeypatch):
    monkeypatch.setattr("flows.engines.gpaw.availability", lambda: "GPAW is absent: install it")


@pytest.fixture
def campaign_file(tmp_path):
    path = tmp_path / "campaign.yaml"
    path.write_text(yaml.safe_dump(SEARCH))
    return path


def test_without_a_campaign_what_is_optional_is_a_warning(doctor, no_gpaw):
    code, checks = doctor()
    assert code == 0
    assert checks["GPAW"]["state"] == "warning"
    assert checks["database"]["state"] == "ok"
    assert doctor("--strict")[0] == 1


def test_what_the_campaign_needs_is_a_failure_and_the_rest_is_skipped(
    doctor, no_gpaw, campaign_file
):
    code, checks = doctor(campaign_file)
    assert code == 1
    assert checks["GPAW"] == {
        "name": "GPAW",
        "state": "failure",
        "found": "GPAW is absent",
        "cure": "install it",
    }
    for name in ("VASP", "POTCARs", "Materials Project", "potential sevennet-0"):
        assert checks[name]["state"] == "skipped"


def test_a_force_field_is_loaded_with_its_arguments(doctor, campaign_file, monkeypatch):
    energy = {"name": "DeepMD", "arguments": {"model": "/no/model.pb"}}
    engines = {"energy": energy, "band_gap": {"name": "none"}}
    campaign_file.write_text(yaml.safe_dump(SEARCH | {"engines": engines}))

    def no_module(*_, **__):
        raise ModuleNotFoundError("No module named 'deepmd'")

    monkeypatch.setattr("atomate2.forcefields.utils.ase_calculator", no_module)
    code, checks = doctor(campaign_file)
    assert code == 1
    assert checks["potential chgnet"]["state"] == "skipped"
    assert checks["potential DeepMD"]["state"] == "failure"
    assert "pip install deepmd-kit" in checks["potential DeepMD"]["found"]

    asked = {}
    monkeypatch.setattr("atomate2.forcefields.utils.ase_calculator", lambda _, **a: asked.update(a))
    _, checks = doctor(campaign_file)
    assert checks["potential DeepMD"]["state"] == "ok"
    assert asked == {"model": "/no/model.pb"}


def test_the_potential_that_confirms_must_be_installed(doctor, campaign_file, monkeypatch):
    engines = {"band_gap": {"name": "none"}}
    campaign_file.write_text(yaml.safe_dump(SEARCH | {"engines": engines, "prescreen": {}}))
    monkeypatch.setattr(
        "gan_htvs.potentials.find_spec", lambda name: None if name == "sevenn" else find_spec(name)
    )
    code, checks = doctor(campaign_file)
    assert code == 1
    assert checks["potential chgnet"]["state"] == "ok"
    assert checks["potential sevennet-0"]["state"] == "failure"
    told = checks["potential sevennet-0"]["found"]
    assert "pip install 'gan-htvs[sevennet]'" in told
    assert "prescreen.confirm" in told


def test_whatever_is_not_ok_names_a_cure(doctor, no_gpaw):
    _, checks = doctor("-l", "nowhere.yaml")
    bad = [check for check in checks.values() if check["state"] in ("warning", "failure")]
    assert bad
    assert all(check["cure"] for check in bad)


def test_every_check_runs_even_if_another_crashes(doctor, monkeypatch):
    def crash():
        raise RuntimeError("no such luck")

    monkeypatch.setattr("launchers.doctor.software.python", crash)
    code, checks = doctor()
    assert code == 1
    assert "no such luck" in checks["Python"]["found"]
    assert checks["database"]["state"] == "ok"


def test_a_missing_launchpad_file_is_a_warning_until_a_campaign_needs_it(doctor, campaign_file):
    code, checks = doctor("-l", "nowhere.yaml")
    assert code == 0
    assert checks["launchpad file"]["state"] == "warning"
    assert "gan-htvs init" in checks["launchpad file"]["cure"]
    assert "database" not in checks
    _, checks = doctor("-l", "nowhere.yaml", campaign_file)
    assert checks["launchpad file"]["state"] == "failure"


def test_a_wrong_launchpad_file_is_one_failure(doctor, launchpad_file):
    launchpad_file.write_text("host: [\n")
    code, checks = doctor()
    assert code == 1
    assert "not valid YAML" in checks["launchpad file"]["found"]
    assert checks["database"]["state"] == "skipped"


def test_a_wrong_campaign_gets_one_sentence(campaign_file):
    campaign_file.write_text(yaml.safe_dump(SEARCH | {"nme": "search"}))
    result = runner.invoke(app, ["doctor", str(campaign_file)])
    assert result.exit_code == 2
    assert "unknown key 'nme'" in result.stderr


def test_nothing_is_fetched_for_a_campaign_with_phases_of_the_materials_project(
    doctor, campaign_file, monkeypatch
):
    def fetch(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("gan_htvs.campaign_file.fetch_phases", fetch)
    references = {"source": "materials_project", "path": "phases.json"}
    campaign_file.write_text(yaml.safe_dump(SEARCH | {"references": references}))
    monkeypatch.delenv("MP_API_KEY", raising=False)
    code, checks = doctor(campaign_file, "-l", "nowhere.yaml")
    assert code == 1
    assert checks["Materials Project"]["state"] == "failure"


def test_the_table_shows_state_and_cure(doctor, no_gpaw):
    result = runner.invoke(app, ["doctor", "-l", "nowhere.yaml"])
    assert result.exit_code == 0
    line, cure = next(
        pair
        for pair in zip(result.stdout.splitlines(), result.stdout.splitlines()[1:], strict=False)
        if "GPAW" in pair[0]
    )
    assert "warning" in line
    assert "cure: install it" in cure
