from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter

import psutil
import pytest
import yaml
from fireworks import LaunchPad
from jobflow import Flow, Job
from jobflow.core.job import store_inputs
from jobflow.managers.fireworks import flow_to_workflow
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from typer.testing import CliRunner

from launchers.cli.main import app
from launchers.launchpad.workers import worker_of_launch

TIMEOUT = 300
N_CHAINS = 20


def call(*arguments):
    """Run a command that sets no signal handlers in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def start(launchpad_file, directory, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "launchers.cli.main", *arguments[:1], "-l", launchpad_file]
        + [str(argument) for argument in arguments[1:]],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def chain():
    first = store_inputs(1)
    second = store_inputs(first.output)
    return flow_to_workflow(Flow([first, second]), store=None)


def wait_for(launchpad, state):
    deadline = time.monotonic() + TIMEOUT
    while not launchpad.get_fw_ids({"state": state}):
        assert time.monotonic() < deadline, f"no job is {state}"
        time.sleep(0.1)


@pytest.mark.parametrize("command", ["lpad", "qlaunch", "rlaunch"])
def test_help_is_printed_by_fireworks(command):
    result = call(command, "--help")
    assert result.exit_code == 0
    assert f"usage: {command}" in result.output
    assert "--launchpad_file" in result.output


def test_lpad_reads_and_changes_the_launchpad(launchpad_file, launchpad):
    launchpad.bulk_add_wfs([chain()])
    result = call("lpad", "-l", launchpad_file, "get_fws", "-s", "READY", "-d", "ids")
    assert json.loads(result.output) == launchpad.get_fw_ids({"state": "READY"})[0]
    assert call("lpad", "-l", launchpad_file, "defuse_fws", "-s", "READY").exit_code == 0
    assert launchpad.get_fw_ids({"state": "DEFUSED"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lpad", "get_fws"), "my_launchpad.yaml: not found here"),
        (("lpad", "-l", "nowhere.yaml", "get_fws"), "'nowhere.yaml' does not exist"),
        (("qlaunch", "-l", "FILE", "-w", "nowhere.yaml", "singleshot"), "gan-htvs queue init"),
        (("qlaunch", "-l", "FILE", "-c", "cpu", "-q", "q.yaml", "singleshot"), "cpu/my_fworker"),
        (("qlaunch", "-l", "FILE", "-w", "q.yaml", "-q", "q.yaml", "singleshot"), "name, category"),
        (("lpad", "-l", "FILE", "get_fws", "-i", "1", "-q", "{}"), "one of"),
    ],
)
def test_invalid_arguments_are_user_errors(
    launchpad_file, databases, tmp_path, monkeypatch, arguments, message
):
    folder = tmp_path / "without a launchpad"
    (folder / "cpu").mkdir(parents=True)
    (folder / "q.yaml").write_text("_fw_name: CommonAdapter\n_fw_q_type: SLURM\n")
    monkeypatch.chdir(folder)
    result = call(*(launchpad_file if name == "FILE" else name for name in arguments))
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert message in " ".join(result.output.split())


def test_unknown_queue_is_a_user_error(launchpad_file, launchpad, programs, tmp_path):
    answer = "sbatch: error: invalid partition specified: fast"
    programs("sbatch", f"echo '{answer}' >&2; exit 1")
    launchpad.bulk_add_wfs([chain()])
    adapter = "{_fw_name: CommonAdapter, _fw_q_type: SLURM, rocket_launch: rlaunch, queue: fast}"
    (tmp_path / "my_qadapter.yaml").write_text(adapter)
    # In another process, because FireWorks imports all its modules to find an adapter.
    run = start(launchpad_file, tmp_path, "qlaunch", "-s", "-q", "my_qadapter.yaml", "singleshot")
    output, _ = run.communicate(timeout=TIMEOUT)
    assert run.returncode == 2, output
    assert answer in output
    assert launchpad.get_fw_ids({"state": "READY"})  # nothing is lost


def sbatch_into(path):
    """Return a shell script that copies the submitted script and needs no other program."""
    copy = 'while IFS= read -r line; do echo "$line"; done < "$1"'
    return f"{copy} > {path}; echo Submitted batch job 1"


def qlaunch_with(adapter, launchpad_file, folder):
    """Submit one batch job with the text of an adapter; return exit code and output."""
    common = "_fw_name: CommonAdapter\n_fw_q_type: SLURM\n"
    text = adapter if "_fw_" in adapter else f"{common}rocket_launch: rlaunch\n{adapter}\n"
    (folder / "my_qadapter.yaml").write_text(text)
    run = start(launchpad_file, folder, "qlaunch", "-s", "-q", "my_qadapter.yaml", "singleshot")
    output, _ = run.communicate(timeout=TIMEOUT)
    return run.returncode, output


@pytest.mark.parametrize(
    ("adapter", "key"),
    [
        ("account: 0123", "account"),
        ("mem_per_cpu: 4 GB", "mem_per_cpu"),
        ("account: [a", "not valid YAML"),
        ("_fw_name: CommonAdapter\n_fw_q_type: Slurm_21\n", "Slurm_21"),
        ("_fw_name: SlurmAdapterOfOurs\n_fw_account: x\n", "SlurmAdapterOfOurs"),
        ("_fw_q_type: SLURM\n", "_fw_name"),
    ],
)
def test_invalid_adapter_submits_nothing(
    launchpad_file, launchpad, programs, tmp_path, adapter, key
):
    programs("sbatch", sbatch_into(tmp_path / "submitted"))
    launchpad.bulk_add_wfs([chain()])
    code, output = qlaunch_with(adapter, launchpad_file, tmp_path)
    assert code == 2, output
    assert "Traceback" not in output
    for part in ("my_qadapter.yaml", key):
        assert part in output
    assert not (tmp_path / "submitted").exists()


def test_unquoted_values_that_yaml_keeps_are_submitted(
    launchpad_file, launchpad, programs, tmp_path
):
    programs("sbatch", sbatch_into(tmp_path / "submitted"))
    launchpad.bulk_add_wfs([chain()])
    code, output = qlaunch_with("walltime: 24:00:00\naccount: 2024", launchpad_file, tmp_path)
    assert code == 0, output
    script = (tmp_path / "submitted").read_text().splitlines()
    assert {"#SBATCH --time=24:00:00", "#SBATCH --account=2024"} <= set(script)


def test_four_workers_run_every_job_once_and_record_their_identity(
    launchpad_file, launchpad, databases, tmp_path
):
    launchpad.bulk_add_wfs([chain() for _ in range(N_CHAINS)])
    several = start(launchpad_file, tmp_path, "rlaunch", "-s", "multi", 3, "--sleep", 1)
    single = start(launchpad_file, tmp_path, "rlaunch", "-s", "rapidfire", "--sleep", 1)
    for worker in (several, single):
        output, _ = worker.communicate(timeout=TIMEOUT)
        assert worker.returncode == 0, output

    jobs = list(launchpad.fireworks.find({}, {"state": 1, "launches": 1, "archived_launches": 1}))
    assert Counter(job["state"] for job in jobs) == {"COMPLETED": 2 * N_CHAINS}
    assert {len(job["launches"]) for job in jobs} == {1}
    assert not any(job["archived_launches"] for job in jobs)
    launches = list(launchpad.launches.find({}, {"launch_id": 1, "fw_id": 1, "fworker": 1}))
    assert len(launches) == len({launch["launch_id"] for launch in launches}) == 2 * N_CHAINS
    assert len({launch["fw_id"] for launch in launches}) == 2 * N_CHAINS
    outputs = databases.store("outputs", key="uuid")
    with outputs:
        assert outputs.count() == 2 * N_CHAINS
    pids = {worker_of_launch(launch).pid for launch in launches}
    assert several.pid not in pids  # its child processes run the jobs
    assert len(pids - {single.pid}) > 1


@pytest.mark.parametrize(
    ("arguments", "signal_number"),
    [(("singleshot",), signal.SIGINT), (("multi", 2, "--sleep", 1), signal.SIGTERM)],
)
def test_job_of_a_stopped_worker_is_queued_again(
    launchpad_file, launchpad, tmp_path, arguments, signal_number
):
    program = Job(subprocess.run, function_args=(["sleep", "600"],))
    launchpad.add_wf(flow_to_workflow(Flow([program]), store=None))
    worker = start(launchpad_file, tmp_path, "rlaunch", *arguments)
    wait_for(launchpad, "RUNNING")
    while not (programs := [p for p in child_processes(worker) if "sleep" in p.cmdline()]):
        time.sleep(0.1)
    worker.send_signal(signal_number)
    output, _ = worker.communicate(timeout=TIMEOUT)
    assert worker.returncode == 128 + signal_number, output
    assert psutil.wait_procs(programs, timeout=20)[1] == []
    assert launchpad.get_fw_ids({"state": "RUNNING"})

    assert "1 queued again" in call("recover", "-l", launchpad_file).output
    assert launchpad.get_fw_ids({"state": "READY"})
    assert not launchpad.get_fw_ids({"state": "FIZZLED"})


def child_processes(process):
    return psutil.Process(process.pid).children(recursive=True)


def test_worker_with_other_versions_prints_a_warning(launchpad_file, launchpad, tmp_path):
    submission = {"versions": {"jobflow": "0.0.1", "no-such-package": "1"}}
    launchpad.db["campaigns"].insert_one({"name": "search", "submission": submission})
    worker = start(launchpad_file, tmp_path, "rlaunch", "singleshot")
    output, _ = worker.communicate(timeout=TIMEOUT)
    assert worker.returncode == 0
    (line,) = [line for line in output.splitlines() if "other versions" in line]
    assert "'search': jobflow" in line
    assert "(not 0.0.1)" in line


def test_embedded_database_runs_until_it_is_stopped(launchpad_file_of_own_server):
    path = launchpad_file_of_own_server
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "launchers.cli.main", "database", "-l", path],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert "until Ctrl-C" in server.stdout.readline()
    launchpad = LaunchPad.from_file(str(path))
    launchpad.reset("", require_password=False)
    assert launchpad.get_fw_ids() == []
    server.send_signal(signal.SIGTERM)
    server.communicate(timeout=TIMEOUT)
    assert server.returncode == 0
    with pytest.raises(PyMongoError):
        MongoClient(launchpad.host, launchpad.port, serverSelectionTimeoutMS=500).admin.command(
            "ping"
        )


def test_running_mongodb_server_is_a_user_error(tmp_path, databases):
    path = tmp_path / "my_launchpad.yaml"
    path.write_text(yaml.safe_dump({"host": "127.0.0.1", "port": databases.settings.port}))
    result = call("database", "-l", path)
    assert result.exit_code == 2
    assert str(path.name) in result.output
