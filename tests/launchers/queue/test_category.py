from __future__ import annotations

import pytest
import yaml

from launchers.doctor.check import State
from launchers.queue import category

PBS_QUEUES = """\
Queue: workq
    queue_type = Execution
    total_jobs = 0

Queue: a_queue_with_a_long_name
    queue_type = Execution
"""


def edit(path, **changes):
    document = yaml.safe_load(path.read_text()) | changes
    path.write_text(yaml.safe_dump(document))


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
    assert category.worker(folder, "cpu").state is state


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"rocket_launch": "rlaunch singleshot"}, "-l nothing, not "),
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
    assert category.batch_job(folder / "cpu" / "my_qadapter.yaml", launchpad).state is State.OK
    edit(folder / "cpu" / "my_qadapter.yaml", **changes)
    finding = category.batch_job(folder / "cpu" / "my_qadapter.yaml", launchpad)
    assert finding.state is State.FAILURE
    assert found in finding.found
    assert finding.cure


def test_workers_of_another_database_are_told(files, site):
    folder = files()
    other = site / "other.yaml"
    other.write_text("{host: elsewhere, name: other}\n")
    path = folder / "cpu" / "my_qadapter.yaml"
    path.write_text(path.read_text().replace("my_launchpad.yaml", "other.yaml"))
    finding = category.batch_job(path, site / "my_launchpad.yaml")
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
    absent = category.queue(path)
    assert absent.state is State.WARNING
    assert f"{program} is not on PATH" in absent.found

    programs(program, f"printf '{answer}'")
    assert category.queue(path).state is State.OK
    edit(path, queue="fast")
    unknown = category.queue(path)
    assert unknown.state is State.FAILURE
    assert f"there is no {what} 'fast'; there are {answer.split()[0]}".replace(
        "Queue:", "workq"
    ) in (unknown.found)

    programs(program, "echo 'no server' >&2; exit 1")
    silent = category.queue(path)
    assert silent.state is State.WARNING
    assert "no server" in silent.found


def test_an_unknown_parallel_environment_is_told(files, programs):
    path = files("sge", "--queue", "all.q") / "dft" / "my_qadapter.yaml"
    programs("qconf", "case $1 in -sql) echo all.q;; -spl) echo smp;; esac")
    assert category.queue(path).found == "queue all.q; parallel environment smp 16"
    edit(path, parallel_environment="mpi 16")
    assert "no parallel environment 'mpi'; there are smp" in category.queue(path).found
