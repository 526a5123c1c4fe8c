from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib import metadata

import pytest
from fireworks import FWorker

from gan_htvs.core.versions import versions
from launchers.launchpad.batch_system import BatchQueue, BatchSystem
from launchers.launchpad.workers import (
    Liveness,
    attach_worker,
    differences,
    this_worker,
    worker_of_launch,
)

NO_QUEUE = BatchQueue(None)


class Queue(BatchQueue):
    """A batch system that answers what it is told to."""

    def __init__(self, answer):
        super().__init__(BatchSystem.SLURM)
        self.answer = answer

    def holds(self, job):
        return self.answer


@pytest.fixture
def mine():
    return this_worker()


def changed(worker, **changes):
    return worker.model_copy(update=changes)


def test_an_identity_survives_the_way_through_a_launch(mine):
    fworker = FWorker(name="node", env={"vasp_cmd": "srun vasp_std"})
    attach_worker(fworker, mine)
    launch = {"fworker": fworker.to_dict()}
    assert worker_of_launch(launch) == mine
    assert launch["fworker"]["env"]["vasp_cmd"] == "srun vasp_std"


@pytest.mark.parametrize("launch", [None, {}, {"fworker": None}, {"fworker": FWorker().to_dict()}])
def test_workers_of_fireworks_own_have_no_identity(launch):
    assert worker_of_launch(launch) is None


def test_a_process_that_runs_is_alive(mine):
    assert mine.liveness(NO_QUEUE) is Liveness.ALIVE


def test_a_process_that_ended_is_dead_even_before_its_parent_noticed(mine):
    child = subprocess.Popen([sys.executable, "-c", ""])
    started = this_worker().started
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
    assert changed(mine, pid=child.pid, started=started).liveness(NO_QUEUE) is Liveness.DEAD
    child.wait()
    assert changed(mine, pid=child.pid).liveness(NO_QUEUE) is Liveness.DEAD


def test_a_recycled_pid_is_not_the_worker(mine):
    assert changed(mine, started=mine.started - 1000).liveness(NO_QUEUE) is Liveness.DEAD
    after_clock_change = changed(mine, started=mine.started - 2)
    assert after_clock_change.liveness(NO_QUEUE) is Liveness.ALIVE


def test_a_process_of_somebody_else_that_is_not_seen_may_be_hidden(mine):
    gone = changed(mine, user="somebody else", started=0)
    assert gone.liveness(NO_QUEUE) is Liveness.UNKNOWN


def test_a_worker_of_another_machine_is_not_judged_unless_nobody_else_can_be_there(mine):
    elsewhere = changed(mine, host="elsewhere", started=0)
    assert elsewhere.liveness(NO_QUEUE) is Liveness.UNKNOWN
    assert elsewhere.liveness(NO_QUEUE, is_single_machine=True) is Liveness.DEAD


@pytest.mark.parametrize(
    ("held", "user", "life"),
    [
        (False, None, Liveness.DEAD),
        (True, None, Liveness.UNKNOWN),  # it may have died within its batch job
        (None, None, Liveness.UNKNOWN),
        (False, "somebody else", Liveness.UNKNOWN),  # whose jobs the queue may hide
    ],
)
def test_a_worker_is_dead_with_its_batch_job(mine, held, user, life):
    job = {"batch_system": BatchSystem.SLURM, "batch_job": "17", "cluster": "big"}
    worker = changed(mine, host="node7", user=user or mine.user, **job)
    assert worker.liveness(Queue(held)) is life


def test_versions_are_those_installed_and_what_is_missing_is_left_out(monkeypatch):
    monkeypatch.setattr("gan_htvs.core.versions.PACKAGES", ("numpy", "no-such-package"))
    versions.cache_clear()
    try:
        found = versions()
    finally:
        versions.cache_clear()
    assert found["numpy"] == metadata.version("numpy")
    assert set(found) == {"gan-htvs", "python", "numpy"}


def test_versions_are_compared_where_both_have_the_package():
    ours = {"ase": "3.29.0", "torch": "2.13.0", "gpaw": "26.7.0"}
    theirs = {"ase": "3.28.0", "torch": "2.13.0", "chgnet": "0.4.2"}
    assert differences(ours, theirs) == ["ase 3.29.0 (not 3.28.0)"]
    assert differences(ours, ours) == []


def test_a_stopped_worker_takes_its_children_along_and_leaves_no_exception():
    program = (
        "import signal, subprocess, sys, time\n"
        "from launchers.launchpad.workers import stop_at_once\n"
        "signal.signal(signal.SIGTERM, stop_at_once)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\n"
        "try:\n"
        "    time.sleep(600)\n"
        "finally:\n"
        "    print('unwound', flush=True)\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    child = int(worker.stdout.readline())
    worker.send_signal(signal.SIGTERM)
    rest, _ = worker.communicate(timeout=60)
    assert worker.returncode == 128 + signal.SIGTERM
    assert rest == ""
    gone = this_worker().model_copy(update={"pid": child})
    assert gone.liveness(NO_QUEUE) is Liveness.DEAD
