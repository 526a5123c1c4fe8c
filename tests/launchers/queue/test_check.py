from __future__ import annotations

import json
import shutil

import pytest
import yaml

from gan_htvs.campaign.model import Campaign
from gan_htvs.campaign.routing import Category
from launchers.monitor.findings import Severity
from launchers.queue import check


def campaign_of(engines):
    return Campaign.model_validate(
        {
            "name": "search",
            "chemical_system": {"caps": {"Mg": 2, "O": 2}},
            "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
            "engines": engines,
        }
    )


def test_what_was_just_written_is_all_right(files, call, launchpad_file, programs):
    folder = files("slurm", "--queue", "batch", "-l", launchpad_file)
    programs("sinfo", "printf 'batch\\na100\\n'")
    result = call("check", folder, "--json")
    checks = {each["where"]: each for each in json.loads(result.stdout)}
    assert result.exit_code == 0
    local = checks.pop("reach of the database")
    assert local["severity"] == "warning"
    assert {each["severity"] for each in checks.values()} == {"ok"}
    assert "20 min" in checks["environment"]["what"]
    assert checks["cpu: queue"]["what"] == "partition batch"
    assert "workers: 16," in checks["cpu: batch jobs"]["what"]


def test_an_environment_in_which_nothing_starts_is_told(files, site):
    folder = files()
    (folder / "environment.sh").write_text("module load vasp/0 || return 1\n")
    finding = check.environment(folder, site / "my_launchpad.yaml")
    assert finding.severity is Severity.FAILURE
    assert "module" in finding.what


def test_wrong_fireworks_settings_of_batch_jobs_are_shown(files, site):
    folder = files()
    with (folder / "FW_config.yaml").open("a") as settings:
        settings.write("PROFILE_ROCKETS: true\n")
    finding = check.environment(folder, site / "my_launchpad.yaml")
    assert finding.severity is Severity.FAILURE
    assert f"{folder / 'FW_config.yaml'}: PROFILE_ROCKETS" in finding.what


def test_settings_that_come_first_are_told(files, site, monkeypatch):
    folder = files()
    launchpad = site / "my_launchpad.yaml"
    home = site / "home"
    (home / ".fireworks").mkdir(parents=True)
    (home / ".fireworks" / "FW_config.yaml").write_text("PING_TIME_SECS: 3600\n")
    monkeypatch.setenv("HOME", str(home))
    finding = check.environment(folder, launchpad)
    assert finding.severity is Severity.WARNING
    assert "~/.fireworks" in finding.fix

    (folder / "jobflow.yaml").unlink()
    finding = check.environment(folder, launchpad)
    assert finding.severity is Severity.FAILURE
    assert "MemoryStore" in finding.what


def test_the_environment_of_the_submitter_is_not_taken_for_that_of_the_job(
    files, site, monkeypatch
):
    folder = files()
    monkeypatch.setenv("JOBFLOW_CONFIG_FILE", "/elsewhere/jobflow.yaml")
    script = folder / "environment.sh"
    kept = [line for line in script.read_text().splitlines() if "JOBFLOW_CONFIG_FILE" not in line]
    script.write_text("\n".join(kept))
    finding = check.environment(folder, site / "my_launchpad.yaml")
    assert finding.severity is Severity.FAILURE
    assert "JOBFLOW_CONFIG_FILE" in finding.fix


def test_a_folder_that_nobody_wrote_is_one_sentence(call, site):
    result = call("check", site / "nowhere")
    assert result.exit_code == 2
    assert "gan-htvs queue init" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("vasp", "severity", "told"),
    [
        ({}, Severity.WARNING, "max_seconds is not set"),
        ({"max_seconds": 90_000}, Severity.WARNING, "max_seconds is 90000 s"),
        ({"max_seconds": 36_000}, Severity.OK, "12:00:00"),
    ],
)
def test_the_longest_calculation_must_fit_into_the_margin(files, site, vasp, severity, told):
    path = files() / "dft" / "my_qadapter.yaml"
    campaign = campaign_of({"energy": {"name": "vasp"}, "vasp": vasp})
    limit = check.longest_calculations(campaign)[Category.DFT]
    finding = check.batch_job(path, site / "my_launchpad.yaml", limit)
    assert finding.severity is severity
    assert told in finding.what


def test_a_campaign_is_examined_for_what_it_needs(files, call, launchpad_file, site):
    folder = files("slurm", "-l", launchpad_file)
    for not_needed_or_missing in ("dft", "cpu"):
        shutil.rmtree(folder / not_needed_or_missing)
    worker = folder / "hse" / "my_fworker.yaml"
    worker.unlink()
    (site / "campaign.yaml").write_text(yaml.safe_dump(campaign_of({}).model_dump(mode="json")))
    result = call("check", folder, "--campaign", "campaign.yaml", "--json")
    assert result.exit_code == 1
    checks = json.loads(result.stdout)
    failed = {each["where"]: each for each in checks if each["severity"] == "failure"}
    assert failed.keys() == {"cpu: workers", "cpu: batch jobs", "cpu: queue", "hse: workers"}
    (known,) = (each for each in checks if each["where"] == "campaign")
    assert known["what"] == "no 'search' here; this database has no campaigns"
    assert failed["hse: workers"]["what"].startswith(f"{worker}: not found")
    assert f"gan-htvs queue init {folder}" in failed["hse: workers"]["what"]
