from __future__ import annotations

import pytest
import yaml
from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter

from gan_htvs.errors import UserError
from launchers.doctor.check import State
from launchers.queue import category
from launchers.queue.profiles import clock_of

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


def rewrite(path, key, value):
    """Write a value as people do, without the quotes that a program adds."""
    lines = path.read_text().splitlines()
    kept = [line for line in lines if not line.startswith(f"{key}:")]
    path.write_text("\n".join([*kept, f"{key}: {value}", ""]))


@pytest.mark.parametrize(
    ("scheduler", "walltime", "hours"),
    [
        ("slurm", "24:00:00", 24),
        ("slurm", "'24:00:00'", 24),
        ("slurm", "1-06:00:00", 30),
        ("slurm", "1-6", 30),
        ("slurm", "1-06:30", 30.5),
        ("slurm", "1440", 24),
        ("slurm", "1440:00", 24),
        ("pbs", "24:00:00", 24),
        ("pbs", "86400", 24),
        ("pbs", "1440:00", 24),
        ("sge", "24:00:00", 24),
        ("sge", "24::0", 24),
        ("sge", "86400", 24),
    ],
)
def test_a_walltime_is_read_as_the_batch_system_reads_it(files, site, scheduler, walltime, hours):
    path = files(scheduler, "--queue", "batch") / "cpu" / "my_qadapter.yaml"
    rewrite(path, "walltime", walltime)
    finding = category.batch_job(path, site / "my_launchpad.yaml")
    assert finding.state is State.OK
    assert f", {clock_of(int(hours * 3600))};" in finding.found
    script = CommonAdapter.from_file(str(path)).get_script_str("/tmp")
    assert walltime.strip("'") in script


@pytest.mark.parametrize(
    ("scheduler", "walltime"),
    [("slurm", "24h"), ("slurm", "1 day"), ("pbs", "1-00:00:00"), ("sge", "24:00"), ("pbs", "1d")],
)
def test_a_walltime_that_the_batch_system_does_not_read_is_refused(
    files, site, scheduler, walltime
):
    path = files(scheduler, "--queue", "batch") / "cpu" / "my_qadapter.yaml"
    rewrite(path, "walltime", walltime)
    with pytest.raises(UserError, match="a time is HH:MM:SS"):
        category.batch_job(path, site / "my_launchpad.yaml")


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
        ("queue", "2024", False),
        ("queue", "'2024'", True),
        ("account", "0x1F", False),
    ],
)
def test_an_unquoted_value_reaches_the_script_as_written_or_is_refused(
    files, site, key, written, is_kept
):
    path = files("slurm") / "cpu" / "my_qadapter.yaml"
    rewrite(path, key, written)
    if is_kept:
        assert category.batch_job(path, site / "my_launchpad.yaml").state is State.OK
        script = CommonAdapter.from_file(str(path)).get_script_str("/tmp")
        assert written.strip("'") in {line.partition("=")[2] for line in script.splitlines()}
    else:
        with pytest.raises(UserError, match=f"{key}: .*quote it"):
            category.batch_job(path, site / "my_launchpad.yaml")


@pytest.mark.parametrize(
    ("scheduler", "key", "size", "is_read"),
    [
        *(("slurm", "mem", size, True) for size in ("4G", "4GB", "4000M", "4000", "0", "4g")),
        *(("slurm", "mem_per_cpu", size, False) for size in ("4 GB", "4.5G", "4GiB", "lots")),
        *(("sge", "h_vmem", size, True) for size in ("4G", "4000M", "4.5G")),
        *(("sge", "h_vmem", size, False) for size in ("4000", "4GB", "4 G")),
    ],
)
def test_memory_is_written_as_the_batch_system_reads_it(files, site, scheduler, key, size, is_read):
    path = files(scheduler, "--queue", "batch") / "cpu" / "my_qadapter.yaml"
    rewrite(path, key, size)
    if is_read:
        assert category.batch_job(path, site / "my_launchpad.yaml").state is State.OK
    else:
        with pytest.raises(UserError, match=f"{key}: {size} is no amount of memory"):
            category.batch_job(path, site / "my_launchpad.yaml")
