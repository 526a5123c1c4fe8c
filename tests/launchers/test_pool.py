from __future__ import annotations

import subprocess

import pytest

from gan_htvs.processes import CORES
from launchers.pool import WorkerPool


@pytest.mark.parametrize(("size", "share"), [(1, "8"), (3, "2"), (8, "1"), (20, "1")])
def test_workers_share_the_cores_of_the_machine(tmp_path, monkeypatch, size, share):
    environments = []

    class Process(subprocess.Popen):
        def __init__(self, arguments, *, env, **more):
            environments.append(env)
            super().__init__(["true"], env=env, **more)

    monkeypatch.setattr("launchers.pool.subprocess.Popen", Process)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "logs").mkdir()
    with WorkerPool(size, tmp_path / "my_launchpad.yaml", tmp_path, ["search"]):
        pass
    assert [each[CORES] for each in environments] == [share] * size
    assert {each["OMP_NUM_THREADS"] for each in environments} == {"1"}
