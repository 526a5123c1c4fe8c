from __future__ import annotations

import json
import shutil

import pytest
import yaml

from gan_htvs.campaign import Campaign
from gan_htvs.routing import Category
from launchers.doctor.check import State
from launchers.queue import check

PBS_QUEUES = """\
Queue: workq
    queue_type = Execution
    total_jobs = 0

Queue: a_queue_with_a_long_name
    queue_type = Execution
"""


@pytest.fixture
def files(site, call):
    """Render files for a batch system and give their folder."""

    def render(scheduler="slurm", *options):
        chosen = options or ("--queue", "batch", "gpu=a100")
        assert call("init", "--scheduler", scheduler, *chosen).exit_code == 0
        return site / "queue"

    return render


def campaign_of(engines):
    return Campaign.model_validate(
        {
            "name": "search",
            "chemical_system": {"caps": {"Mg": 2, "O": 2}},
            "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
            "engines": engines,
        }
    )


def edit(path, **changes):
    document = yaml.safe_load(path.read_text()) | changes
    path.write_text(yaml.safe_dump(document))


def test_what_was_just_written_is_all_right(files, call, launchpad_file, programs):
    folder = files("slurm", "--queue", "batch", "-l", launchpad_file)
    programs("sinfo", "printf 'batch\\na100\\n'")
    result = call("check", folder, "--json")
    checks = {each["name"]: each for each in json.loads(result.stdout)}
    assert result.exit_code == 0
    local = checks.pop("reach of the database")
    assert local["state"] == "warning"
    assert {each["state"] for each in checks.values()} == {"ok"}
    assert "20 min" in checks["environment"]["found"]
    assert checks["cpu: queue"]["found"] == "partition batch"
    assert "16 workers" in checks["cpu: batch jobs"]["found"]


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, State.OK),
        ({"category": ["cpu", "gpu"]}, State.OK),
        ({"category": "gpu"}, State.FAILURE),
        ({"category": ""}, State.FAILURE),
        ({"query": "nonsense"}, State.FAILURE),
    ],
)
def test_a_worker_must_take_the_jobs_of_its_category(files, changes, state):
    folder = files()
    edit(folder / "cpu" / "my_fworker.yaml", **changes)
    assert check.worker(folder, "cpu").state is state


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"rocket_launch": "rlaunch singleshot"}, "-l nothing"),
        ({"rocket_launch": "echo"}, "calls no rlaunch"),
        ({"pre_rocket": "if true"}, "cannot read the script"),
        ({"walltimes": "12:00:00"}, "Key walltimes"),
        ({"walltime": "10:00:00"}, "up to the walltime of 10:00:00"),
        ({"_fw_template_file": "/nowhere.txt"}, "/nowhere.txt: No such file"),
    ],
)
def test_what_an_editor_broke_in_an_adapter_is_told(files, site, changes, found):
    folder = files()
    launchpad = site / "my_launchpad.yaml"
    assert check.batch_job(folder / "cpu" / "my_qadapter.yaml", launchpad).state is State.OK
    edit(folder / "cpu" / "my_qadapter.yaml", **changes)
    finding = check.batch_job(folder / "cpu" / "my_qadapter.yaml", launchpad)
    assert finding.state is State.FAILURE
    assert found in finding.found
    assert finding.cure


def test_workers_of_another_database_are_told(files, site):
    folder = files()
    other = site / "other.yaml"
    other.write_text("{host: elsewhere, name: other}\n")
    path = folder / "cpu" / "my_qadapter.yaml"
    path.write_text(path.read_text().replace("my_launchpad.yaml", "other.yaml"))
    finding = check.batch_job(path, site / "my_launchpad.yaml")
    assert finding.state is State.FAILURE
    assert str(other) in finding.found


@pytest.mark.parametrize(
    ("scheduler", "options", "program", "answer", "what"),
    [
        ("slurm", ("--queue", "batch,long"), "sinfo", "batch\nlong\n", "partition"),
        ("pbs", ("--queue", "a_queue_with_a_long_name"), "qstat", PBS_QUEUES, "queue"),
        ("sge", ("--queue", "all.q@node1"), "qconf", "all.q\nsmp\n", "queue"),
    ],
)
def test_queues_are_looked_up_where_the_scheduler_knows_them(
    files, programs, scheduler, options, program, answer, what
):
    path = files(scheduler, *options) / "cpu" / "my_qadapter.yaml"
    absent = check.queue(path)
    assert absent.state is State.WARNING
    assert f"{program} is not on PATH" in absent.found

    programs(program, f"printf '{answer}'")
    assert check.queue(path).state is State.OK
    edit(path, queue="fast")
    unknown = check.queue(path)
    assert unknown.state is State.FAILURE
    assert f"there is no {what} 'fast'; there are {answer.split()[0]}".replace(
        "Queue:", "workq"
    ) in (unknown.found)

    programs(program, "echo 'no server' >&2; exit 1")
    silent = check.queue(path)
    assert silent.state is State.WARNING
    assert "no server" in silent.found


def test_an_unknown_parallel_environment_is_told(files, programs):
    path = files("sge", "--queue", "all.q") / "dft" / "my_qadapter.yaml"
    programs("qconf", "case $1 in -sql) echo all.q;; -spl) echo smp;; esac")
    assert check.queue(path).found == "queue all.q; parallel environment smp 16"
    edit(path, parallel_environment="mpi 16")
    assert "no parallel environment 'mpi'; there are smp" in check.queue(path).found


def test_an_environment_in_which_nothing_starts_is_told(files, site):
    folder = files()
    (folder / "environment.sh").write_text("module load vasp/0 || return 1\n")
    finding = check.environment(folder, site / "my_launchpad.yaml")
    assert finding.state is State.FAILURE
    assert "module" in finding.found


def test_settings_that_come_first_are_told(files, site, monkeypatch):
    folder = files()
    launchpad = site / "my_launchpad.yaml"
    home = site / "home"
    (home / ".fireworks").mkdir(parents=True)
    (home / ".fireworks" / "FW_config.yaml").write_text("PING_TIME_SECS: 3600\n")
    monkeypatch.setenv("HOME", str(home))
    finding = check.environment(folder, launchpad)
    assert finding.state is State.WARNING
    assert "~/.fireworks" in finding.found

    (folder / "jobflow.yaml").unlink()
    finding = check.environment(folder, launchpad)
    assert finding.state is State.FAILURE
    assert "MemoryStore" in finding.found


def test_the_environment_of_the_submitter_is_not_taken_for_that_of_the_job(
    files, site, monkeypatch
):
    folder = files()
    monkeypatch.setenv("JOBFLOW_CONFIG_FILE", "/elsewhere/jobflow.yaml")
    script = folder / "environment.sh"
    kept = [line for line in script.read_text().splitlines() if "JOBFLOW_CONFIG_FILE" not in line]
    script.write_text("\n".join(kept))
    finding = check.environment(folder, site / "my_launchpad.yaml")
    assert finding.state is State.FAILURE
    assert "JOBFLOW_CONFIG_FILE" in finding.cure


def test_a_folder_that_nobody_wrote_is_one_sentence(call, site):
    result = call("check", site / "nowhere")
    assert result.exit_code == 2
    assert "gan-htvs queue init" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("vasp", "state", "told"),
    [
        ({}, State.WARNING, "max_seconds is not set"),
        ({"max_seconds": 90_000}, State.WARNING, "max_seconds is 90000 s"),
        ({"max_seconds": 36_000}, State.OK, "12:00:00"),
    ],
)
def test_the_longest_calculation_must_fit_into_the_margin(files, vasp, state, told):
    path = files() / "dft" / "my_qadapter.yaml"
    campaign = campaign_of({"energy": {"name": "vasp"}, "vasp": vasp})
    finding = check.margin(path, check.longest_calculations(campaign)[Category.DFT])
    assert finding.state is state
    assert told in finding.found


def test_a_campaign_is_examined_for_what_it_needs(files, call, launchpad_file, site):
    folder = files("slurm", "-l", launchpad_file)
    for not_needed_or_missing in ("dft", "cpu"):
        shutil.rmtree(folder / not_needed_or_missing)
    worker = folder / "hse" / "my_fworker.yaml"
    worker.unlink()
    (site / "campaign.yaml").write_text(yaml.safe_dump(campaign_of({}).model_dump(mode="json")))
    result = call("check", folder, "--campaign", "campaign.yaml", "--json")
    assert result.exit_code == 1
    failed = {each["name"]: each for each in json.loads(result.stdout) if is_failure(each)}
    lacking = {"cpu: workers", "cpu: batch jobs", "cpu: queue", "hse: workers", "hse: batch jobs"}
    assert failed.keys() == lacking
    assert failed["hse: workers"]["found"].startswith(f"{worker}: not found")
    assert f"gan-htvs queue init {folder}" in failed["hse: workers"]["cure"]


def is_failure(check):
    return check["state"] == "failure"
