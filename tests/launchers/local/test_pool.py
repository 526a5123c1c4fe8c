from __future__ import annotations

import subprocess
import sys

import pytest

from gan_htvs.core.errors import UserError
from gan_htvs.core.processes import CORES_VARIABLE
from launchers.local import pool as module
from launchers.local.pool import WorkerPool

POPEN = subprocess.Popen
IDLE = "import time; time.sleep(600)"
STUBBORN = f"import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); {IDLE}"


class Recovery:
    """A recovery that finds each lost job once."""

    def __init__(self, *lost_jobs):
        self.lost_jobs, self.repaired = list(lost_jobs), []

    def runs(self):
        lost_jobs, self.lost_jobs = self.lost_jobs, []
        return lost_jobs

    def repair(self, lost_job):
        self.repaired.append(lost_job)


@pytest.fixture
def pool(tmp_path, monkeypatch):
    """Return a function that makes pools of processes running a program instead of a worker."""

    def make(size, program=IDLE):
        def start(_, **more):
            return POPEN([sys.executable, "-c", program], **more)

        monkeypatch.setattr(subprocess, "Popen", start)
        (tmp_path / "logs").mkdir()
        return WorkerPool(size, tmp_path / "my_launchpad.yaml", tmp_path, ["search"])

    return make


def kill(workers, *numbers):
    for number in numbers:
        workers.processes[number].kill()
        workers.processes[number].wait()


def test_workers_that_die_with_their_jobs_are_replaced(pool):
    recovery = Recovery(*"abcde")
    with pool(5) as workers:
        kill(workers, *range(5))
        workers.replace_dead(recovery)
        assert [worker.poll() for worker in workers.processes] == [None] * 5
    assert recovery.repaired == list("abcde")


def test_idle_workers_that_die_together_are_replaced(pool):
    with pool(5) as workers:
        kill(workers, *range(5))
        workers.replace_dead(Recovery("a job"))
        assert [worker.poll() for worker in workers.processes] == [None] * 5


def test_workers_that_die_repeatedly_without_a_job_are_a_user_error(pool):
    with pool(2) as workers:
        for _ in range(3):
            kill(workers, 1)
            workers.replace_dead(Recovery())
        kill(workers, 0)
        workers.replace_dead(Recovery("a job"))
        kill(workers, 0, 1)
        with pytest.raises(UserError, match=r"-9.*worker-1.log"):
            workers.replace_dead(Recovery())


def test_old_deaths_are_not_counted(pool, monkeypatch):
    monkeypatch.setattr(module, "IDLE_DEATHS_SECONDS", 0.0)
    with pool(1) as workers:
        for _ in range(6):
            kill(workers, 0)
            workers.replace_dead(Recovery())


def test_worker_that_ignores_sigterm_is_killed(pool, monkeypatch):
    monkeypatch.setattr(module, "STOP_SECONDS", 0.2)
    with pool(1, STUBBORN) as workers:
        while not workers.log_file(0).read_text():
            assert workers.processes[0].poll() is None
    assert workers.processes[0].returncode == -9


@pytest.mark.parametrize(("size", "share"), [(1, "8"), (3, "2"), (8, "1"), (20, "1")])
def test_workers_share_the_cores_of_the_machine(tmp_path, monkeypatch, size, share):
    environments = []

    class Process(subprocess.Popen):
        def __init__(self, arguments, *, env, **more):
            environments.append(env)
            super().__init__(["true"], env=env, **more)

    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "logs").mkdir()
    with WorkerPool(size, tmp_path / "my_launchpad.yaml", tmp_path, ["search"]):
        pass
    assert [environment[CORES_VARIABLE] for environment in environments] == [share] * size
    assert {environment["OMP_NUM_THREADS"] for environment in environments} == {"1"}
