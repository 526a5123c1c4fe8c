from __future__ import annotations

import json
import shutil

import pytest
import yaml
from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter

from gan_htvs.campaign.model import Campaign
from gan_htvs.campaign.routing import Category
from gan_htvs.core.errors import UserError
from launchers.monitor.findings import Severity
from launchers.queue import check

PBS_QUEUES = """\
Queue: workq
    queue_type = Execution
    total_jobs = 0

Queue: a_queue_with_a_long_name
    queue_type = Execution
"""


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


def edit(path, **changes):
    document = yaml.safe_load(path.read_text()) | changes
    path.write_text(yaml.safe_dump(document))


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, Severity.OK),
        ({"category": ["cpu", "gpu"]}, Severity.OK),
        ({"category": "gpu"}, Severity.FAILURE),
        ({"category": ""}, Severity.FAILURE),
    ],
)
def test_worker_must_accept_jobs_of_its_category(files, changes, state):
    folder = files()
    edit(folder / "cpu" / "my_fworker.yaml", **changes)
    assert check.worker(folder, "cpu").severity is state


def test_invalid_fworker_file_is_rejected(files):
    folder = files()
    edit(folder / "cpu" / "my_fworker.yaml", query="nonsense")
    with pytest.raises(UserError, match=r"my_fworker\.yaml.*query"):
        check.worker(folder, "cpu")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"rocket_launch": "rlaunch singleshot"}, "-l nothing, not "),
        ({"rocket_launch": "echo"}, "rlaunch"),
        ({"pre_rocket": "if true"}, "/bin/bash"),
        ({"walltimes": "12:00:00"}, "Key walltimes"),
        ({"walltime": "10:00:00"}, "walltime of 10:00:00"),
        ({"_fw_template_file": "/nowhere.txt"}, "/nowhere.txt"),
    ],
)
def test_errors_in_an_adapter_are_reported(files, site, changes, problem):
    folder = files()
    launchpad = site / "my_launchpad.yaml"
    assert check.batch_job(folder / "cpu" / "my_qadapter.yaml", launchpad).severity is Severity.OK
    edit(folder / "cpu" / "my_qadapter.yaml", **changes)
    finding = check.batch_job(folder / "cpu" / "my_qadapter.yaml", launchpad)
    assert finding.severity is Severity.FAILURE
    assert problem in finding.what
    assert finding.fix


def test_workers_of_another_database_are_a_failure(files, site):
    folder = files()
    other = site / "other.yaml"
    other.write_text("{host: elsewhere, name: other}\n")
    path = folder / "cpu" / "my_qadapter.yaml"
    path.write_text(path.read_text().replace("my_launchpad.yaml", "other.yaml"))
    finding = check.batch_job(path, site / "my_launchpad.yaml")
    assert finding.severity is Severity.FAILURE
    assert str(other) in finding.what


@pytest.mark.parametrize(
    ("scheduler", "options", "program", "queues", "existing"),
    [
        ("slurm", ("--queue", "batch,long"), "sinfo", "batch\nlong\n", "batch"),
        ("pbs", ("--queue", "a_queue_with_a_long_name"), "qstat", PBS_QUEUES, "workq"),
        ("sge", ("--queue", "all.q@node1"), "qconf", "all.q\nsmp\n", "all.q"),
    ],
)
def test_queues_are_checked_with_the_batch_system(
    files, programs, scheduler, options, program, queues, existing
):
    path = files(scheduler, *options) / "cpu" / "my_qadapter.yaml"
    missing_program = check.queue(path)
    assert missing_program.severity is Severity.WARNING
    assert program in missing_program.what

    programs(program, f"printf '{queues}'")
    assert check.queue(path).severity is Severity.OK
    edit(path, queue="fast")
    unknown_queue = check.queue(path)
    assert unknown_queue.severity is Severity.FAILURE
    assert "'fast'" in unknown_queue.what
    assert existing in unknown_queue.what

    programs(program, "echo 'no server' >&2; exit 1")
    no_server = check.queue(path)
    assert no_server.severity is Severity.WARNING
    assert "no server" in no_server.what


def test_unknown_parallel_environment_is_a_failure(files, programs):
    path = files("sge", "--queue", "all.q") / "dft" / "my_qadapter.yaml"
    programs("qconf", "case $1 in -sql) echo all.q;; -spl) echo smp;; esac")
    assert check.queue(path).what == "queue all.q; parallel environment smp 16"
    edit(path, parallel_environment="mpi 16")
    finding = check.queue(path)
    assert finding.severity is Severity.FAILURE
    assert "parallel environment 'mpi'" in finding.what


def write_unquoted(path, key, value):
    """Write a value without the quotes that ``yaml.safe_dump`` adds."""
    lines = path.read_text().splitlines()
    kept = [line for line in lines if not line.startswith(f"{key}:")]
    path.write_text("\n".join([*kept, f"{key}: {value}", ""]))


def test_walltime_has_the_meaning_of_the_batch_system(files, site):
    path = files("slurm") / "cpu" / "my_qadapter.yaml"
    write_unquoted(path, "walltime", "1440")
    finding = check.batch_job(path, site / "my_launchpad.yaml")
    assert finding.severity is Severity.OK
    assert ", 24:00:00;" in finding.what
    write_unquoted(path, "walltime", "24h")
    with pytest.raises(UserError, match="a time is HH:MM:SS"):
        check.batch_job(path, site / "my_launchpad.yaml")


@pytest.mark.parametrize(
    ("key", "written", "is_kept"),
    [
        ("account", "0123", False),
        ("account", "'0123'", True),
        ("account", "123", True),
        ("account", "1_000", False),
        ("account", "12e3", False),
        ("qos", "1.10", False),
        ("qos", "No", True),
        ("qos", "on", True),
        ("qos", "true", False),
        ("qos", "2024-01-01", True),
        ("walltime", "24:00:00", True),
        ("queue", "2024", False),
        ("queue", "'2024'", True),
        ("account", "0x1F", False),
    ],
)
def test_unquoted_values_that_yaml_changes_are_rejected(files, site, key, written, is_kept):
    path = files("slurm") / "cpu" / "my_qadapter.yaml"
    write_unquoted(path, key, written)
    if is_kept:
        assert check.batch_job(path, site / "my_launchpad.yaml").severity is Severity.OK
        script = CommonAdapter.from_file(str(path)).get_script_str("/tmp")
        assert written.strip("'") in {line.partition("=")[2] for line in script.splitlines()}
    else:
        with pytest.raises(UserError, match=f"{key}.*quote it"):
            check.batch_job(path, site / "my_launchpad.yaml")


@pytest.mark.parametrize(
    ("scheduler", "key", "size", "is_valid"),
    [
        *(("slurm", "mem", size, True) for size in ("4G", "4GB", "4000M", "4000", "0", "4g")),
        *(("slurm", "mem_per_cpu", size, False) for size in ("4 GB", "4.5G", "4GiB", "lots")),
        *(("sge", "h_vmem", size, True) for size in ("4G", "4000M", "4.5G")),
        *(("sge", "h_vmem", size, False) for size in ("4000", "4GB", "4 G")),
    ],
)
def test_memory_must_be_valid_for_the_batch_system(files, site, scheduler, key, size, is_valid):
    path = files(scheduler, "--queue", "batch") / "cpu" / "my_qadapter.yaml"
    write_unquoted(path, key, size)
    if is_valid:
        assert check.batch_job(path, site / "my_launchpad.yaml").severity is Severity.OK
    else:
        with pytest.raises(UserError, match=f"{key}: {size}"):
            check.batch_job(path, site / "my_launchpad.yaml")
