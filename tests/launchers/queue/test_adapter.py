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
def test_walltime_has_the_meaning_of_the_batch_system(files, site, scheduler, walltime, hours):
    path = files(scheduler, "--queue", "batch") / "cpu" / "my_qadapter.yaml"
    write_unquoted(path, "walltime", walltime)
    finding = check.batch_job(path, site / "my_launchpad.yaml")
    assert finding.severity is Severity.OK
    assert f", {clock_of(int(hours * 3600))};" in finding.what
    script = CommonAdapter.from_file(str(path)).get_script_str("/tmp")
    assert walltime.strip("'") in script


@pytest.mark.parametrize(
    ("scheduler", "walltime"),
    [("slurm", "24h"), ("slurm", "1 day"), ("pbs", "1-00:00:00"), ("sge", "24:00"), ("pbs", "1d")],
)
def test_invalid_walltime_is_rejected(files, site, scheduler, walltime):
    path = files(scheduler, "--queue", "batch") / "cpu" / "my_qadapter.yaml"
    write_unquoted(path, "walltime", walltime)
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
