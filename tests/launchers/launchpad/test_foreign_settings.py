from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
import yaml
from fireworks import fw_config
from jobflow import Flow
from jobflow.core.job import store_inputs
from jobflow.managers.fireworks import flow_to_workflow

from gan_htvs.core.errors import UserError
from launchers.launchpad.database import open_databases
from launchers.launchpad.foreign_settings import (
    checked_settings,
    fireworks_files,
    jobflow_file,
    restore_jobflow_settings,
    set_aside_jobflow_settings,
)

TIMEOUT = 300
USER_ERROR = 2


@pytest.fixture
def home(tmp_path):
    """A home directory without settings."""
    folder = tmp_path / "home"
    (folder / ".fireworks").mkdir(parents=True)
    return folder


@pytest.fixture
def python(tmp_path, home):
    """Run Python in the folder of the launchpad file, with the settings that a test wrote."""

    def run(*arguments, **variables):
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"HOME": str(home)} | {k: str(v) for k, v in variables.items()},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    return run


@pytest.fixture
def gan_htvs(python):
    return lambda *arguments, **variables: python(
        "-m", "launchers.cli.main", *arguments, **variables
    )


@pytest.fixture
def group(tmp_path, launchpad_file):
    """A folder of a group with the launchpad file of another database."""
    folder = tmp_path / "group"
    folder.mkdir()
    settings = yaml.safe_load(launchpad_file.read_text())
    settings["name"] += "_group"
    (folder / "my_launchpad.yaml").write_text(yaml.safe_dump(settings))
    return folder


@pytest.fixture
def job_in_both(launchpad, group):
    """One job on the launchpad of the working directory, and one on that of the group."""
    with open_databases(group / "my_launchpad.yaml") as databases_of_group:
        group_launchpad = databases_of_group.launchpad()
        group_launchpad.initialize()
        for target in (launchpad, group_launchpad):
            target.add_wf(flow_to_workflow(Flow([store_inputs(1)]), store=None))
        yield launchpad, group_launchpad


def write(path, **settings):
    path.write_text(yaml.safe_dump(settings))
    return path


def n_jobs(launchpad):
    return len(launchpad.get_fw_ids())


# Content of FW_config.yaml


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("PROFILE_ROCKETS: true", "PROFILE_ROCKETS"),
        ("ping_time_secs: 300", "ping_time_secs"),
        ("FWData: 1", "FWData"),
        ("PING_TIME_SECS: 5 min", "PING_TIME_SECS"),
        ("RUN_EXPIRATION_SECS: null", "RUN_EXPIRATION_SECS"),
        ("REMOVE_USELESS_DIRS: 3", "REMOVE_USELESS_DIRS"),
        ("QUEUE_RETRY_ATTEMPTS: true", "QUEUE_RETRY_ATTEMPTS"),
        ("CONFIG_FILE_DIR: null", "CONFIG_FILE_DIR"),
        ("ADD_USER_PACKAGES: my_tasks", "ADD_USER_PACKAGES"),
        ("STREAM_LOGLEVEL: info", "STREAM_LOGLEVEL"),
        ("STREAM_LOGLEVEL: [INFO]", "STREAM_LOGLEVEL"),
        ("PING_TIME_SECS: [300", "line"),
        ("PING_TIME_SECS: 1\nPING_TIME_SECS: 2", "line 2"),
        ("- PING_TIME_SECS", "mapping"),
        ("", "mapping"),
    ],
)
def test_invalid_fireworks_settings_are_a_user_error(tmp_path, text, part):
    path = tmp_path / "FW_config.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        checked_settings(path, vars(fw_config))
    assert str(path) in str(error.value)
    assert part in str(error.value)


def test_unreadable_fireworks_settings_are_a_user_error(tmp_path):
    folder = tmp_path / "FW_config.yaml"
    folder.mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        checked_settings(folder, vars(fw_config))


def test_credentials_in_fireworks_settings_are_not_shown(tmp_path):
    path = tmp_path / "FW_config.yaml"
    for settings in ({"LAUNCHPAD_LOC": {"password": "xyzzy"}}, {"MONGO_PASSWORD": "xyzzy"}):
        with pytest.raises(UserError) as error:
            checked_settings(write(path, **settings), vars(fw_config))
        assert "xyzzy" not in str(error.value)


def test_effective_fireworks_settings_are_kept(tmp_path):
    kept = {
        "PING_TIME_SECS": 300,
        "RAPIDFIRE_SLEEP_SECS": 0.5,
        "SORT_FWS": "FIFO",
        "REMOVE_USELESS_DIRS": False,
        "GRIDFS_FALLBACK_COLLECTION": None,
        "QUEUEADAPTER_LOC": "/group/my_qadapter.yaml",
        "ADD_USER_PACKAGES": ["my_tasks"],
        "ROCKET_STREAM_LOGLEVEL": "WARNING",
    }
    ignored = {"ECHO_TEST": 1, "DS_PASSWORD": "1", "MONGOMOCK_SERVERSTORE_FILE": "store.json"}
    path = write(tmp_path / "FW_config.yaml", **kept, **ignored)
    assert checked_settings(path, vars(fw_config)) == kept


# Import of FireWorks in all processes

SHOW = """
import launchers, json, sys
from fireworks import fw_config as c
shown = [c.PING_TIME_SECS, c.USER_PACKAGES[-1], c.FWORKER_LOC, c.MongoClient.__module__]
print(json.dumps(shown))
"""


def test_fireworks_import_is_silent_and_uses_the_settings(python, tmp_path, home, group):
    settings = {"PING_TIME_SECS": 77, "ADD_USER_PACKAGES": ["my_tasks"], "ECHO_TEST": "hello"}
    settings |= {"CONFIG_FILE_DIR": str(group)}
    write(group / "my_fworker.yaml", name="node")
    write(tmp_path / "my_fworker.yaml", name="other")
    write(tmp_path / "FW_config.yaml", **settings)
    write(home / ".fireworks" / "FW_config.yaml", ECHO_TEST="home")
    shown = python("-c", SHOW, MONGOMOCK_SERVERSTORE_FILE=tmp_path / "store.json")
    ping, package, fworker, client = json.loads(shown.stdout)
    assert (ping, package, fworker) == (77, "my_tasks", str(group / "my_fworker.yaml"))
    assert client.startswith("pymongo.")
    assert shown.stderr == ""


def test_fireworks_import_is_silent_in_spawned_processes(python, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing\n"
        "from launchers.launchpad.builders import builders\n"
        "if __name__ == '__main__':\n"
        "    child = multiprocessing.get_context('spawn').Process(target=print)\n"
        "    child.start(); child.join()\n"
        "    assert child.exitcode == 0\n"
    )
    path = write(tmp_path / "settings.yaml", ECHO_TEST="hello")
    result = python(program, FW_CONFIG_FILE=path)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr


def test_first_fireworks_file_is_in_effect(tmp_path, home, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("FW_CONFIG_FILE", str(write(tmp_path / "named.yaml")))
    assert fireworks_files() == [tmp_path / "named.yaml"]
    of_home = write(home / ".fireworks" / "FW_config.yaml")
    assert fireworks_files() == [of_home, tmp_path / "named.yaml"]
    of_folder = write(tmp_path / "FW_config.yaml")
    assert fireworks_files()[0] == of_folder


# The command line


def test_stdout_contains_only_the_document(gan_htvs, tmp_path, home, launchpad, group):
    path = write(tmp_path / "settings.yaml", CONFIG_FILE_DIR=str(group), ECHO_TEST="hello")
    assert json.loads(gan_htvs("candidates", "--format", "json", FW_CONFIG_FILE=path).stdout) == []
    write(home / ".fireworks" / "FW_config.yaml", ECHO_TEST="home")  # "Found many potential paths"
    assert gan_htvs("candidates", "--count", FW_CONFIG_FILE=path).stdout == "0\n"


@pytest.mark.parametrize("where", ["CONFIG_FILE_DIR", "LAUNCHPAD_LOC", "home"])
def test_lpad_uses_launchpad_file_of_working_directory(
    gan_htvs, tmp_path, home, group, job_in_both, where
):
    own_launchpad, group_launchpad = job_in_both
    group_file = group / "my_launchpad.yaml"
    variables = {}
    if where == "home":
        (home / ".fireworks" / group_file.name).write_text(group_file.read_text())
    else:
        value = group if where == "CONFIG_FILE_DIR" else group_file
        path = write(tmp_path / "settings.yaml", **{where: str(value)})
        variables["FW_CONFIG_FILE"] = path
    today = f"{datetime.now():%Y-%m-%d}"  # noqa: DTZ005 - lpad's confirmation
    reset = gan_htvs("lpad", "reset", "--password", today, **variables)
    assert reset.returncode == 0, reset.stderr
    assert (n_jobs(own_launchpad), n_jobs(group_launchpad)) == (0, 1)
    (tmp_path / "my_launchpad.yaml").unlink()
    reset = gan_htvs("lpad", "reset", "--password", today, **variables)
    assert reset.returncode == USER_ERROR
    assert n_jobs(group_launchpad) == 1


def test_lpad_uses_launchpad_file_of_an_option(gan_htvs, tmp_path, group, job_in_both):
    own_launchpad, _ = job_in_both
    own_launchpad.add_wf(flow_to_workflow(Flow([store_inputs(1)]), store=None))
    for option in (("-l", group / "my_launchpad.yaml"), ("-c", group)):
        counted = gan_htvs("lpad", *option, "get_fws", "-d", "count")
        assert counted.stdout.strip() == "1", counted.stderr
    nowhere = gan_htvs("lpad", "-c", tmp_path / "typo", "get_fws", "-d", "count")
    assert nowhere.returncode == USER_ERROR
    assert "typo" in nowhere.stderr


def test_rlaunch_uses_launchpad_file_of_working_directory(
    gan_htvs, tmp_path, group, job_in_both, databases
):
    own_launchpad, group_launchpad = job_in_both
    path = write(tmp_path / "settings.yaml", CONFIG_FILE_DIR=str(group))
    job_store = write(tmp_path / "jobflow.yaml", JOB_STORE={"docs_store": {"type": "Nonsense"}})
    launch = gan_htvs("rlaunch", "singleshot", FW_CONFIG_FILE=path, JOBFLOW_CONFIG_FILE=job_store)
    assert launch.returncode == 0, launch.stderr
    assert own_launchpad.get_fw_ids({"state": "COMPLETED"})
    assert group_launchpad.get_fw_ids({"state": "READY"})
    with databases.store("outputs", key="uuid") as outputs:
        assert outputs.count() == 1


def test_missing_config_file_dir_is_ignored(gan_htvs, tmp_path, job_in_both):
    path = write(tmp_path / "settings.yaml", CONFIG_FILE_DIR="/no/such/folder")
    counted = gan_htvs("lpad", "get_fws", "-d", "count", FW_CONFIG_FILE=path)
    assert counted.stdout.strip() == "1", counted.stderr


@pytest.mark.parametrize("command", [("status", "--json"), ("lpad", "get_fws"), ("qlaunch", "-h")])
def test_invalid_fireworks_settings_stop_a_command(gan_htvs, home, launchpad_file, command):
    path = write(home / ".fireworks" / "FW_config.yaml", PROFILE_ROCKETS=True)
    refused = gan_htvs(*command)
    assert refused.returncode == USER_ERROR
    assert "Traceback" not in refused.stderr
    assert str(path) in refused.stderr.replace("\n", "")
    assert refused.stdout == ""


# jobflow


@pytest.mark.parametrize("where", ["JOBFLOW_CONFIG_FILE", "JOBFLOW_JOB_STORE", "home"])
def test_jobflow_settings_have_no_effect(gan_htvs, tmp_path, home, launchpad, where):
    settings = {"type": "MongoURIStore", "uri": "mongodb://db/?w=1", "collection_name": "outputs"}
    path = home / ".jobflow.yaml" if where == "home" else tmp_path / "jobflow.yaml"
    write(path, JOB_STORE={"docs_store": settings})
    variables = {
        "JOBFLOW_CONFIG_FILE": {where: path},
        "JOBFLOW_JOB_STORE": {where: "{no json"},
        "home": {},
    }[where]
    counted = gan_htvs("candidates", "--count", **variables)
    assert (counted.returncode, counted.stdout) == (0, "0\n"), counted.stderr


def test_jobflow_settings_are_hidden_and_restored(tmp_path, monkeypatch):
    monkeypatch.setenv("JOBFLOW_CONFIG_FILE", str(tmp_path / "jobflow.yaml"))
    monkeypatch.setenv("jobflow_uid_type", "ulid")
    before = dict(os.environ)
    set_aside_jobflow_settings()
    try:
        assert not Path(os.environ["JOBFLOW_CONFIG_FILE"]).exists()
        assert "jobflow_uid_type" not in os.environ
        assert jobflow_file() == tmp_path / "jobflow.yaml"
    finally:
        restore_jobflow_settings()
    assert dict(os.environ) == before


def test_hidden_jobflow_file_of_the_home_directory_is_found(home, monkeypatch):
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("JOBFLOW_CONFIG_FILE", raising=False)
    set_aside_jobflow_settings()
    try:
        assert jobflow_file() == home / ".jobflow.yaml"
    finally:
        restore_jobflow_settings()


def test_batch_jobs_inherit_jobflow_settings(gan_htvs, programs, tmp_path, launchpad):
    launchpad.add_wf(flow_to_workflow(Flow([store_inputs(1)]), store=None))
    inherited = tmp_path / "inherited"
    programs("sbatch", f'echo "$JOBFLOW_CONFIG_FILE" > {inherited}; exit 1')
    adapter = {"_fw_name": "CommonAdapter", "_fw_q_type": "SLURM", "rocket_launch": "rlaunch"}
    write(tmp_path / "my_qadapter.yaml", **adapter)
    gan_htvs("qlaunch", "singleshot", JOBFLOW_CONFIG_FILE="/group/jobflow.yaml")
    assert inherited.read_text().strip() == "/group/jobflow.yaml"
