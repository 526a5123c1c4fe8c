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
    """A batch system with a fixed answer."""

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


def test_worker_identity_is_stored_in_a_launch(mine):
    fworker = FWorker(name="node", env={"vasp_cmd": "srun vasp_std"})
    attach_worker(fworker, mine)
    launch = {"fworker": fworker.to_dict()}
    assert worker_of_launch(launch) == mine
    assert launch["fworker"]["env"]["vasp_cmd"] == "srun vasp_std"


@pytest.mark.parametrize("launch", [None, {}, {"fworker": None}, {"fworker": FWorker().to_dict()}])
def test_stock_worker_has_no_identity(launch):
    assert worker_of_launch(launch) is None


def test_running_process_is_alive(mine):
    assert mine.liveness(NO_QUEUE) is Liveness.ALIVE


def test_ended_and_zombie_processes_are_dead(mine):
    child = subprocess.Popen([sys.executable, "-c", ""])
    started = this_worker().started
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
    assert changed(mine, pid=child.pid, started=started).liveness(NO_QUEUE) is Liveness.DEAD
    child.wait()
    assert changed(mine, pid=child.pid).liveness(NO_QUEUE) is Liveness.DEAD


def test_process_with_reused_pid_is_not_the_worker(mine):
    assert changed(mine, started=mine.started - 1000).liveness(NO_QUEUE) is Liveness.DEAD
    after_clock_change = changed(mine, started=mine.started - 2)
    assert after_clock_change.liveness(NO_QUEUE) is Liveness.ALIVE


def test_invisible_process_of_another_user_is_unknown(mine):
    gone = changed(mine, user="another user", started=0)
    assert gone.liveness(NO_QUEUE) is Liveness.UNKNOWN


def test_worker_of_another_host_is_unknown_unless_single_machine(mine):
    remote = changed(mine, host="elsewhere", started=0)
    assert remote.liveness(NO_QUEUE) is Liveness.UNKNOWN
    assert remote.liveness(NO_QUEUE, is_single_machine=True) is Liveness.DEAD


@pytest.mark.parametrize(
    ("is_queued", "user", "expected"),
    [
        (False, None, Liveness.DEAD),
        (True, None, Liveness.UNKNOWN),  # it may have died while its batch job runs
        (None, None, Liveness.UNKNOWN),
        (False, "another user", Liveness.UNKNOWN),  # the queue may hide jobs of other users
    ],
)
def test_worker_is_dead_if_its_batch_job_has_ended(mine, is_queued, user, expected):
    job = {"batch_system": BatchSystem.SLURM, "batch_job": "17", "cluster": "big"}
    worker = changed(mine, host="node7", user=user or mine.user, **job)
    assert worker.liveness(Queue(is_queued)) is expected


def test_versions_contain_only_installed_packages(monkeypatch):
    monkeypatch.setattr("gan_htvs.core.versions.PACKAGES", ("numpy", "no-such-package"))
    versions.cache_clear()
    try:
        installed = versions()
    finally:
        versions.cache_clear()
    assert installed["numpy"] == metadata.version("numpy")
    assert set(installed) == {"gan-htvs", "python", "numpy"}


def test_only_common_packages_are_compared():
    expected = {"ase": "3.29.0", "torch": "2.13.0", "gpaw": "26.7.0"}
    installed = {"ase": "3.28.0", "torch": "2.13.0", "chgnet": "0.4.2"}
    assert differences(expected, installed) == ["ase 3.29.0 (not 3.28.0)"]
    assert differences(expected, expected) == []


def test_stopped_worker_kills_its_children_without_exception():
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
