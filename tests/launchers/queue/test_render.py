from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import yaml
from atomate2.settings import Atomate2Settings
from fireworks import Firework, ScriptTask
from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter

from gan_htvs.campaign.routing import Category
from gan_htvs.core.processes import CORES_VARIABLE
from launchers.launchpad.database import open_databases

CATEGORIES = [str(category) for category in Category]


def directives(site, category, folder="queue"):
    """Return the directives for the batch system in a script that FireWorks writes."""
    adapter = CommonAdapter.from_file(str(site / folder / category / "my_qadapter.yaml"))
    with warnings.catch_warnings(action="error"):  # FireWorks warns about unknown keys
        script = adapter.get_script_str(site)
    assert "$$" not in script
    prefixes = ("#SBATCH ", "#PBS ", "#$ ")
    return [
        line.removeprefix(prefix)
        for line in script.splitlines()
        for prefix in prefixes
        if line.startswith(prefix)
    ]


def test_slurm_scripts_request_gpus_nodes_and_mpi_tasks(site, call):
    options = ("--queue", "batch", "gpu=a100", "--account", "mat1", "--cores", "64", "gpu=8")
    assert call("init", "--scheduler", "slurm", *options, "--nodes", "hse=2").exit_code == 0
    gpu, cpu, dft, hse = (directives(site, category) for category in CATEGORIES)
    assert {"--partition=a100", "--gres=gpu:1", "--cpus-per-task=8", "--nodes=1"} <= set(gpu)
    assert {"--partition=batch", "--ntasks-per-node=1", "--cpus-per-task=64"} <= set(cpu)
    assert {"--time=12:00:00", "--account=mat1", "--job-name=gan-htvs-cpu"} <= set(cpu)
    assert not [line for line in cpu if "gres" in line or "array" in line]
    assert {"--nodes=1", "--ntasks-per-node=64", "--cpus-per-task=1"} <= set(dft)
    assert {"--nodes=2", "--ntasks-per-node=64"} <= set(hse)


def test_fireworks_reads_names_that_look_like_numbers_as_text(site, call):
    options = ("--queue", "0o17", "--account", "4e15", "--cores", "8")
    assert call("init", "--scheduler", "slurm", *options).exit_code == 0
    assert {"--partition=0o17", "--account=4e15"} <= set(directives(site, "cpu"))


def test_pbs_scripts_select_chunks(site, call):
    options = ("--queue", "workq", "--cores", "32", "--account", "mat1")
    assert call("init", "--scheduler", "pbs", *options).exit_code == 0
    gpu, cpu, dft, _ = (directives(site, category) for category in CATEGORIES)
    assert "-l select=1:ncpus=32:mpiprocs=1:ngpus=1" in gpu
    assert "-l select=1:ncpus=32:mpiprocs=1" in cpu
    assert "-l select=1:ncpus=32:mpiprocs=32" in dft
    assert {"-q workq", "-A mat1", "-l walltime=12:00:00", "-N gan-htvs-cpu"} <= set(cpu)


def test_sge_scripts_request_slots(site, call):
    options = ("--cores", "32", "--parallel-environment", "smp", "dft=mpi", "--nodes", "dft=2")
    assert call("init", "--scheduler", "sge", *options).exit_code == 0
    gpu, cpu, dft, _ = (directives(site, category) for category in CATEGORIES)
    assert {"-pe smp 32", "-l gpu=1"} <= set(gpu)
    assert {"-pe smp 32", "-l h_rt=12:00:00", "-N gan-htvs-cpu", "-cwd", "-j y"} <= set(cpu)
    assert "-pe mpi 64" in dft
    assert not [line for line in cpu if line.startswith(("-q", "-P", "-t", "-l gpu"))]


@pytest.mark.parametrize(
    ("scheduler", "line"),
    [("slurm", "--array=1-8"), ("pbs", "-J 1-8"), ("sge", "-t 1-8")],
)
def test_submission_can_be_a_job_array(site, call, scheduler, line):
    options = ("--array", "cpu=8", "--queue", "batch")
    assert call("init", "--scheduler", scheduler, *options).exit_code == 0
    assert line in directives(site, "cpu")
    assert not [directive for directive in directives(site, "dft") if "1-8" in directive]


@pytest.mark.parametrize("scheduler", ["slurm", "pbs", "sge"])
def test_batch_script_starts_several_workers_in_folders_with_spaces(
    site, call, scheduler, monkeypatch
):
    """The shell runs the script with a ``gan-htvs`` that records its arguments."""
    options = ("--queue", "batch", "--cores", "4", "--tasks", "dft=2")
    assert call("init", "--scheduler", scheduler, *options).exit_code == 0
    record = site / "record.json"
    recorder = site / "gan-htvs"
    recorder.write_text(
        "#!/usr/bin/env python3\n"
        "import json, os, sys\n"
        "document = {'arguments': sys.argv[1:], 'folder': os.getcwd(), **os.environ}\n"
        f"open({str(record)!r}, 'w').write(json.dumps(document))\n"
    )
    recorder.chmod(0o700)
    launch_dir = site / "a launch"
    launch_dir.mkdir()
    for category, mode in (
        ("cpu", ["multi", "4"]),
        ("dft", ["multi", "2"]),
        ("hse", ["rapidfire"]),
    ):
        adapter = CommonAdapter.from_file(str(site / "queue" / category / "my_qadapter.yaml"))
        words = shlex.split(adapter["rocket_launch"])
        adapter["rocket_launch"] = shlex.join([str(recorder), *words[words.index("rlaunch") :]])
        script = launch_dir / "FW_submit.script"
        script.write_text(adapter.get_script_str(launch_dir))
        environment = {"HOME": str(site), "PATH": os.environ["PATH"]}
        subprocess.run(["bash", script], check=True, cwd=site, env=environment)
        recorded = json.loads(record.read_text())
        arguments = recorded["arguments"]
        assert arguments[:5] == [
            *("rlaunch", "-l", str(site / "my_launchpad.yaml")),
            *("-w", str(site / "queue" / category / "my_fworker.yaml")),
        ]
        assert arguments[5 : 5 + len(mode)] == mode
        assert recorded["folder"] == str(launch_dir)
        assert recorded["OMP_NUM_THREADS"] == "1"
        assert recorded["GAN_HTVS_RANKS"] == {"cpu": "1", "dft": "2", "hse": "4"}[category]
        # On one node, cores without MPI are as many as MPI processes.
        assert recorded[CORES_VARIABLE] == {"cpu": "1", "dft": "2", "hse": "4"}[category]
        assert recorded["GAN_HTVS_SCRATCH"] == str(site / "gan_htvs_data" / "scratch")


def test_fireworks_qlaunch_submits_ready_jobs(site, call, launchpad_file, programs):
    """FireWorks' own script runs with an ``sbatch`` that copies the batch script."""
    assert call("init", "--scheduler", "slurm", "-l", launchpad_file).exit_code == 0
    submitted = site / "submitted"
    programs("sbatch", f'/bin/cat "$1" > {shlex.quote(str(submitted))}; echo Submitted batch job 7')
    programs("squeue")
    qlaunch = shlex.quote(str(Path(sys.executable).with_name("qlaunch")))
    with open_databases(launchpad_file) as databases:
        launchpad = databases.launchpad()
        launchpad.initialize()
        launchpad.add_wf(Firework(ScriptTask.from_str("true"), spec={"_category": "cpu"}))
        for category in ("gpu", "cpu"):
            submit = f"{qlaunch} -c queue/{category} --launch_dir gan_htvs_data/runs singleshot"
            subprocess.run(
                ["/bin/bash", "-c", f"source queue/environment.sh; {submit}"],
                env=os.environ | {"HOME": str(site)},
                check=True,
            )
            assert submitted.exists() == (category == "cpu")
    assert " multi 16 " in submitted.read_text()


def test_workers_end_before_the_walltime_and_when_idle(site, call):
    options = ("--walltime", "cpu=02:00:00", "--margin", "cpu=00:30:00")
    assert call("init", "--scheduler", "slurm", *options).exit_code == 0
    adapter = CommonAdapter.from_file(str(site / "queue" / "cpu" / "my_qadapter.yaml"))
    words = shlex.split(adapter["rocket_launch"])
    assert words[words.index("--timeout") + 1] == str(90 * 60)
    assert int(words[words.index("--max_loops") + 1]) > 0


def test_vasp_settings_are_settings_of_atomate2(site, call):
    assert call("init", "--scheduler", "slurm").exit_code == 0
    written = yaml.safe_load((site / "queue" / "atomate2.yaml").read_text())
    assert written.keys() <= Atomate2Settings.model_fields.keys()
    settings = Atomate2Settings(CONFIG_FILE=str(site / "queue" / "atomate2.yaml"))
    assert settings.VASP_CMD.startswith("srun ")
    assert settings.VASP_CMD.endswith(" vasp_std")


def test_edited_files_are_overwritten_only_with_force(site, call):
    init = ("init", "--scheduler", "slurm", "--queue", "batch")
    assert call(*init).exit_code == 0
    environment = site / "queue" / "environment.sh"
    before = environment.stat().st_mtime_ns
    assert call(*init).exit_code == 0
    assert environment.stat().st_mtime_ns == before

    environment.write_text("module load vasp\n")
    (site / "queue" / "jobflow.yaml").unlink()
    result = call(*init)
    assert result.exit_code == 2
    assert "environment.sh" in result.output
    assert environment.read_text() == "module load vasp\n"
    assert not (site / "queue" / "jobflow.yaml").exists()

    assert call(*init, "--force").exit_code == 0
    assert "FW_CONFIG_FILE" in environment.read_text()
    assert (site / "queue" / "jobflow.yaml").exists()


def test_files_contain_no_password_and_are_private(site, call, monkeypatch):
    launchpad = site / "my_launchpad.yaml"
    launchpad.write_text("{host: mongo.example.org, name: a, username: ada, password: xyzzy}\n")
    launchpad.chmod(0o600)
    monkeypatch.setenv("GAN_HTVS_MONGO_PASSWORD", "plugh")
    result = call("init", "--scheduler", "slurm")
    assert result.exit_code == 0
    files = [path for path in (site / "queue").rglob("*") if path.is_file()]
    assert len(files) == 6 + 2 * len(CATEGORIES)
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for text in (result.output, *(path.read_text() for path in files)):
        assert "xyzzy" not in text
        assert "plugh" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scheduler", "pbs"), "--queue workq"),
        (("--scheduler", "slurm", "-l", "nowhere.yaml"), "nowhere.yaml: not found"),
    ],
)
def test_invalid_options_are_user_errors_and_write_nothing(site, call, options, message):
    result = call("init", *options)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (site / "queue").exists()


def test_local_database_causes_a_note(site, call):
    (site / "my_launchpad.yaml").write_text("{host: localhost, port: 27017, name: search}\n")
    assert "other nodes cannot reach it" in call("init", "--scheduler", "slurm").output
