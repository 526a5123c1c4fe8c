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
def test_every_piece_is_done_once(n_processes):
    work = {f"piece {i}": (i,) for i in range(7)}
    found = list(run_in_processes(square, work, n_processes))
    assert len(found) == 7
    assert dict(found) == {f"piece {i}": i * i for i in range(7)}


def test_a_piece_that_kills_its_process_takes_no_other_along():
    found = list(run_in_processes(square_or_die, {i: (i,) for i in range(8)}, 2))
    assert dict(found) == {i: None if i in (0, 3) else i * i for i in range(8)}
    assert len(found) == 8


def test_a_machine_that_kills_every_process_is_not_the_fault_of_the_work():
    with pytest.raises(UserError, match="processes keep being killed"):
        list(run_in_processes(die, {i: (i,) for i in range(4)}, 2))


def test_a_long_path_to_temporary_files_is_no_obstacle(tmp_path, monkeypatch):
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert dict(run_in_processes(square, {2: (2,), 3: (3,)}, 2)) == {2: 4, 3: 9}


def test_what_the_function_raises_is_raised():
    with pytest.raises(ValueError, match="5"):
        list(run_in_processes(fail, {"a": (5,), "b": (5,)}, 2))


def test_cores_are_what_who_starts_workers_says(monkeypatch):
    monkeypatch.delenv("GAN_HTVS_CORES", raising=False)
    assert available_cores() == 1
    monkeypatch.setenv("GAN_HTVS_CORES", "6")
    assert available_cores() == 6
    monkeypatch.setenv("GAN_HTVS_CORES", "many")
    with pytest.raises(UserError, match="'many' is not a number of cores"):
        available_cores()


SCRIPT = """\
from math import factorial

from gan_htvs.core.processes import run_in_processes

print("begun")
print(sorted(run_in_processes(factorial, {n: (n,) for n in range(4)}, 2)))
"""


def test_the_script_of_a_user_needs_no_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "begun\n[(0, 1), (1, 1), (2, 2), (3, 6)]\n"
    assert (done.returncode, done.stderr) == (0, "")
