from __future__ import annotations

import threading

import pytest

from gan_htvs.errors import UserError
from launchers.doctor.check import (
    Check,
    Examination,
    Need,
    State,
    failure,
    has_failed,
    ok,
    warning,
)


@pytest.mark.parametrize(
    ("need", "state"),
    [
        (Need.REQUIRED, "failure"),
        (Need.OPTIONAL, "warning"),
        (Need.CONVENIENT, "skipped"),
        (None, "skipped"),
    ],
)
def test_the_need_decides_how_bad_a_failure_is(need, state):
    assert Examination("VASP", lambda: failure("gone", "bring it"), need).run().state == state


@pytest.mark.parametrize("need", list(Need))
def test_the_need_changes_nothing_else(need):
    assert Examination("VASP", lambda: ok("there"), need).run().state is State.OK
    assert Examination("VASP", lambda: warning("slow", "wait"), need).run().state is State.WARNING


def test_what_is_not_needed_is_not_looked_at():
    looked = threading.Event()
    Examination("VASP", looked.set, None).run()
    assert not looked.is_set()


@pytest.mark.parametrize("need", [Need.REQUIRED, Need.OPTIONAL])
def test_a_crash_is_a_failure_with_its_sentence(need):
    check = Examination("VASP", lambda: 1 / 0, need).run()
    assert check.state is State.FAILURE
    assert "ZeroDivisionError: division by zero" in check.found


def test_what_the_user_can_cure_is_told_as_it_is():
    def examine():
        raise UserError("a: wrong; mend it.")

    check = Examination("file", examine).run()
    assert (check.state, check.found) == (State.FAILURE, "a: wrong; mend it.")
    assert Examination("file", examine, Need.OPTIONAL).run().state is State.WARNING


def test_a_check_that_hangs_does_not_hold_up_the_others():
    never = threading.Event()
    check = Examination("disk", never.wait, longest_seconds=0.05).run()
    assert check.state is State.FAILURE
    assert "no answer" in check.found
    assert check.cure


def test_the_exit_code_follows_the_worst():
    def checks(*states):
        return [Check("x", state, "") for state in states]

    assert not has_failed(checks(State.OK, State.SKIPPED), strict=True)
    assert not has_failed(checks(State.OK, State.WARNING))
    assert has_failed(checks(State.OK, State.WARNING), strict=True)
    assert has_failed(checks(State.FAILURE, State.OK))
