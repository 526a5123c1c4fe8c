from __future__ import annotations

import pytest
import yaml
from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter

from gan_htvs.core.errors import UserError
from launchers.monitor.findings import Severity
from launchers.queue import check
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
        ({}, Severity.OK),
        ({"category": ["cpu", "gpu"]}, Severity.OK),
        ({"category": "gpu"}, Severity.FAILURE),
        ({"category": ""}, Severity.FAILURE),
    ],
)
def test_a_worker_must_take_the_jobs_of_its_category(files, changes, state):
    folder = files()
    edit(folder / "cpu" / "my_fworker.yaml", **changes)
    assert check.worker(folder, "cpu").severity is state


def test_a_file_that_describes_no_worker_is_refused(files):
    folder = files()
    edit(folder / "cpu" / "my_fworker.yaml", query="nonsense")
    with pytest.raises(UserError, match=r"my_fworker\.yaml.*query"):
        check.worker(folder, "cpu")


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"rocket_launch": "rlaunch singleshot"}, "-l nothing, not "),
        ({"rocket_launch": "echo"}, "calls no rlaunch"),
        ({"pre_rocket": "if true"}, "cannot parse the script"),
        ({"walltimes": "12:00:00"}, "Key walltimes"),
        ({"walltime": "10:00:00"}, "up to the walltime of 10:00:00"),
        ({"_fw_template_file": "/nowhere.txt"}, "/nowhere.txt"),
    ],
)
def test_what_an_editor_broke_in_an_adapter_is_told(files, site, changes, found):
    folder = files()
    launchpad = site / "my_launchpad.yaml"
    assert check.batch_job(folder / "cpu" / "my_qadapter.yaml", launchpad).severity is Severity.OK
    edit(folder / "cpu" / "my_qadapter.yaml", **changes)
    finding = check.batch_job(folder / "cpu" / "my_qadapter.yaml", launchpad)
    assert finding.severity is Severity.FAILURE
    assert found in finding.what
    assert finding.fix


def test_workers_of_another_database_are_told(files, site):
    folder = files()
    other = site / "other.yaml"
    other.write_text("{host: elsewhere, name: other}\n")
    path = folder / "cpu" / "my_qadapter.yaml"
    path.write_text(path.read_text().replace("my_launchpad.yaml", "other.yaml"))
    finding = check.batch_job(path, site / "my_launchpad.yaml")
    assert finding.severity is Severity.FAILURE
    assert str(other) in finding.what


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
    assert absent.severity is Severity.WARNING
    assert program in absent.what
    assert "is not on PATH" in absent.what

    programs(program, f"printf '{answer}'")
    assert check.queue(path).severity is Severity.OK
    edit(path, queue="fast")
    unknown = check.queue(path)
    assert unknown.severity is Severity.FAILURE
    assert f"there is no {what} 'fast'; there are {answer.split()[0]}".replace(
        "Queue:", "workq"
    ) in (unknown.what)

    programs(program, "echo 'no server' >&2; exit 1")
    silent = check.queue(path)
    assert silent.severity is Severity.WARNING
    assert "no server" in silent.what


def test_an_unknown_parallel_environment_is_told(files, programs):
    path = files("sge", "--queue", "all.q") / "dft" / "my_qadapter.yaml"
    programs("qconf", "case $1 in -sql) echo all.q;; -spl) echo smp;; esac")
    assert check.queue(path).what == "queue all.q; parallel environment smp 16"
    edit(path, parallel_environment="mpi 16")
    assert "no parallel environment 'mpi'; there are smp" in check.queue(path).what


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
    finding = check.batch_job(path, site / "my_launchpad.yaml")
    assert finding.severity is Severity.OK
    assert f", {clock_of(int(hours * 3600))};" in finding.what
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
        assert check.batch_job(path, site / "my_launchpad.yaml").severity is Severity.OK
        script = CommonAdapter.from_file(str(path)).get_script_str("/tmp")
        assert written.strip("'") in {line.partition("=")[2] for line in script.splitlines()}
    else:
        with pytest.raises(UserError, match=f"{key}: .*quote it"):
            check.batch_job(path, site / "my_launchpad.yaml")


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
        assert check.batch_job(path, site / "my_launchpad.yaml").severity is Severity.OK
    else:
        with pytest.raises(UserError, match=f"{key}: {size} is no amount of memory"):
            check.batch_job(path, site / "my_launchpad.yaml")
