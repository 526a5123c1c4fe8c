from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from gan_htvs.core.errors import UserError
from gan_htvs.core.processes import available_cores, run_in_processes


def square(number: int) -> int:
    return number * number


def square_or_die(number: int) -> int:
    if number in (0, 3):
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail(number: int) -> int:
    raise ValueError(number)


@pytest.mark.parametrize("n_processes", [None, 1, 2])
def test_every_item_is_done_once(n_processes):
    work = {f"item {i}": (i,) for i in range(7)}
    results = list(run_in_processes(square, work, n_processes))
    assert len(results) == 7
    assert dict(results) == {f"item {i}": i * i for i in range(7)}


def test_killed_process_does_not_affect_other_items():
    results = list(run_in_processes(square_or_die, {i: (i,) for i in range(8)}, 2))
    assert dict(results) == {i: None if i in (0, 3) else i * i for i in range(8)}
    assert len(results) == 8


def test_repeatedly_killed_processes_are_a_user_error():
    with pytest.raises(UserError, match="worker processes"):
        list(run_in_processes(die, {i: (i,) for i in range(4)}, 2))


def test_long_path_of_temporary_files(tmp_path, monkeypatch):
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert dict(run_in_processes(square, {2: (2,), 3: (3,)}, 2)) == {2: 4, 3: 9}


def test_exceptions_of_the_function_are_raised():
    with pytest.raises(ValueError, match="5"):
        list(run_in_processes(fail, {"a": (5,), "b": (5,)}, 2))


def test_cores_are_read_from_the_environment(monkeypatch):
    monkeypatch.delenv("GAN_HTVS_CORES", raising=False)
    assert available_cores() == 1
    monkeypatch.setenv("GAN_HTVS_CORES", "6")
    assert available_cores() == 6
    monkeypatch.setenv("GAN_HTVS_CORES", "many")
    with pytest.raises(UserError, match="GAN_HTVS_CORES: 'many'"):
        available_cores()


SCRIPT = """\
from math import factorial

from gan_htvs.core.processes import run_in_processes

print("started")
print(sorted(run_in_processes(factorial, {n: (n,) for n in range(4)}, 2)))
"""


def test_script_without_main_guard_runs_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "started\n[(0, 1), (1, 1), (2, 2), (3, 6)]\n"
    assert (done.returncode, done.stderr) == (0, "")
