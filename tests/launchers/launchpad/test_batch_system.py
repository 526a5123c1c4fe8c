from __future__ import annotations

import pytest

from launchers.launchpad.batch_system import (
    BatchJob,
    BatchQueue,
    BatchSystem,
    current_batch_job,
    user_name,
)

JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "JOB_ID")


@pytest.fixture
def scheduler(tmp_path, monkeypatch):
    """Write shell scripts that replace the commands of a scheduler."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("SGE_ROOT", raising=False)

    def write(name, script):
        command = tmp_path / name
        command.write_text(f"#!/bin/sh\necho called >> {tmp_path}/calls\n{script}\n")
        command.chmod(0o755)
        return tmp_path / "calls"

    return write


def slurm_job(job, cluster="big"):
    return BatchJob(job, BatchSystem.SLURM, cluster)


def test_slurm_is_queried_once_for_all_jobs(scheduler):
    scheduler("scontrol", "echo 'ClusterName             = big'")
    calls = scheduler("squeue", f'[ "$3" = {user_name()} ] && printf "17 12\\n18 18\\n"')
    queue = BatchQueue()
    assert queue.holds(slurm_job("18")) is True
    assert queue.holds(slurm_job("12")) is True  # the array of element 17
    assert queue.holds(slurm_job("19")) is False
    assert len(calls.read_text().splitlines()) == 2


def test_job_of_another_cluster_is_unknown(scheduler):
    scheduler("scontrol", "echo 'ClusterName = big'")
    scheduler("squeue", "exit 0")
    queue = BatchQueue()
    assert queue.holds(slurm_job("19", "other")) is None
    assert queue.holds(slurm_job("19", None)) is None
    assert queue.holds(BatchJob("19.server", BatchSystem.PBS, None)) is None


@pytest.mark.parametrize("failure", ["exit 1", "echo 'slurm_load_jobs error' >&2; exit 1"])
def test_job_is_unknown_if_the_scheduler_fails(scheduler, failure):
    scheduler("scontrol", "echo 'ClusterName = big'")
    scheduler("squeue", failure)
    assert BatchQueue().holds(slurm_job("19")) is None


def test_job_is_unknown_without_a_scheduler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    queue = BatchQueue()
    assert queue.system is None
    assert queue.holds(slurm_job("1")) is None
    assert queue.holds_id("1") is None


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo '    job_state = R'", True),
        ("echo '    job_state = Q'", True),
        ("echo '    job_state = C'", False),  # Torque lists completed jobs for some time
        ("echo 'qstat: Unknown Job Id 7.server' >&2; exit 153", False),
        ("echo 'qstat: 7.server Job has finished, use -x or -H' >&2; exit 35", False),
        ("echo 'Connection refused' >&2; exit 111", None),
    ],
)
def test_pbs_job_state(scheduler, script, expected):
    scheduler("qstat", script)
    queue = BatchQueue(BatchSystem.PBS)
    assert queue.holds(BatchJob("7.server", BatchSystem.PBS, None)) is expected


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo job_number: 7", True),
        ("echo 'Following jobs do not exist:' >&2; exit 1", False),
        ("echo 'error: unable to contact qmaster' >&2; exit 1", None),
    ],
)
def test_sge_job_state(scheduler, monkeypatch, script, expected):
    monkeypatch.setenv("SGE_CLUSTER_NAME", "old")
    scheduler("qstat", script)
    queue = BatchQueue(BatchSystem.SGE)
    assert queue.holds(BatchJob("7", BatchSystem.SGE, "old")) is expected
    assert queue.holds(BatchJob("7", BatchSystem.SGE, "another")) is None


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "17", "SLURM_CLUSTER_NAME": "big"}, slurm_job("17")),
        (
            # An element of an array has its own id in squeue.
            {"SLURM_JOB_ID": "17", "SLURM_ARRAY_JOB_ID": "12", "SLURM_CLUSTER_NAME": "big"},
            slurm_job("17"),
        ),
        ({"PBS_JOBID": "7[3].server"}, BatchJob("7[3].server", BatchSystem.PBS, None)),
        (
            {"JOB_ID": "7", "SGE_ROOT": "/sge", "SGE_CLUSTER_NAME": "old"},
            BatchJob("7", BatchSystem.SGE, "old"),
        ),
        ({"JOB_ID": "of another program"}, None),
    ],
)
def test_batch_job_is_read_from_the_environment(monkeypatch, environment, job):
    for variable in JOB_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert current_batch_job() == job
