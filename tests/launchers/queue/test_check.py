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


def test_new_files_pass_all_checks(files, call, launchpad_file, programs):
    folder = files("slurm", "--queue", "batch", "-l", launchpad_file)
    programs("sinfo", "printf 'batch\\na100\\n'")
    result = call("check", folder, "--json")
    checks = {check["where"]: check for check in json.loads(result.stdout)}
    assert result.exit_code == 0
    local = checks.pop("database address")
    assert local["severity"] == "warning"
    assert {check["severity"] for check in checks.values()} == {"ok"}
    assert "20 min" in checks["environment"]["what"]
    assert checks["cpu: queue"]["what"] == "partition batch"
    assert "workers: 16," in checks["cpu: batch jobs"]["what"]


def test_environment_in_which_no_worker_starts_is_a_failure(files, site):
    folder = files()
    (folder / "environment.sh").write_text("module load vasp/0 || return 1\n")
    finding = check.environment(folder, site / "my_launchpad.yaml")
    assert finding.severity is Severity.FAILURE
    assert "module" in finding.what


def test_wrong_fireworks_settings_are_a_failure(files, site):
    folder = files()
    with (folder / "FW_config.yaml").open("a") as settings:
        settings.write("PROFILE_ROCKETS: true\n")
    finding = check.environment(folder, site / "my_launchpad.yaml")
    assert finding.severity is Severity.FAILURE
    assert f"{folder / 'FW_config.yaml'}: PROFILE_ROCKETS" in finding.what


def test_settings_with_precedence_are_reported(files, site, monkeypatch):
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


def test_environment_check_ignores_variables_of_the_submitter(files, site, monkeypatch):
    folder = files()
    monkeypatch.setenv("JOBFLOW_CONFIG_FILE", "/elsewhere/jobflow.yaml")
    script = folder / "environment.sh"
    kept = [line for line in script.read_text().splitlines() if "JOBFLOW_CONFIG_FILE" not in line]
    script.write_text("\n".join(kept))
    finding = check.environment(folder, site / "my_launchpad.yaml")
    assert finding.severity is Severity.FAILURE
    assert "JOBFLOW_CONFIG_FILE" in finding.fix


def test_missing_folder_is_a_user_error(call, site):
    result = call("check", site / "nowhere")
    assert result.exit_code == 2
    assert "gan-htvs queue init" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("vasp", "severity", "what"),
    [
        ({}, Severity.WARNING, "max_seconds is not set"),
        ({"max_seconds": 90_000}, Severity.WARNING, "max_seconds is 90000 s"),
        ({"max_seconds": 36_000}, Severity.OK, "12:00:00"),
    ],
)
def test_longest_calculation_must_fit_into_the_margin(files, site, vasp, severity, what):
    path = files() / "dft" / "my_qadapter.yaml"
    campaign = campaign_of({"energy": {"name": "vasp"}, "vasp": vasp})
    limit = check.longest_calculations(campaign)[Category.DFT]
    finding = check.batch_job(path, site / "my_launchpad.yaml", limit)
    assert finding.severity is severity
    assert what in finding.what


def test_only_categories_of_the_campaign_are_required(files, call, launchpad_file, site):
    folder = files("slurm", "-l", launchpad_file)
    for category in ("dft", "cpu"):
        shutil.rmtree(folder / category)
    worker = folder / "hse" / "my_fworker.yaml"
    worker.unlink()
    (site / "campaign.yaml").write_text(yaml.safe_dump(campaign_of({}).model_dump(mode="json")))
    result = call("check", folder, "--campaign", "campaign.yaml", "--json")
    assert result.exit_code == 1
    checks = json.loads(result.stdout)
    failed = {check["where"]: check for check in checks if check["severity"] == "failure"}
    assert failed.keys() == {"cpu: workers", "cpu: batch jobs", "cpu: queue", "hse: workers"}
    (unknown,) = (check for check in checks if check["where"] == "campaign")
    assert "'search'" in unknown["what"]
    assert failed["hse: workers"]["what"].startswith(f"{worker}: not found")
    assert f"gan-htvs queue init {folder}" in failed["hse: workers"]["what"]
