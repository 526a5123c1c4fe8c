from __future__ import annotations

import io
from collections import Counter

import pytest
from rich.console import Console

from launchers.console.output import WorkProgress


def test_off_a_terminal_a_bar_that_never_started_leaves_no_line():
    written = io.StringIO()
    with pytest.raises(ValueError, match="told"), WorkProgress(Console(file=written)):
        raise ValueError("told")
    assert written.getvalue() == ""


def test_off_a_terminal_the_end_of_each_thing_is_a_line():
    written = io.StringIO()
    with WorkProgress(Console(file=written)) as show:
        for done in range(4):
            show("relaxing", done, 3)
    assert written.getvalue() == "relaxing 3/3\n"


def test_on_a_terminal_there_is_a_bar_for_each_thing():
    written = io.StringIO()
    with WorkProgress(Console(file=written, force_terminal=True, width=80)) as show:
        show("sampling", 1, 2)
        show("relaxing", 3, 3)
    assert "sampling" in written.getvalue()
    assert "3/3" in written.getvalue()


def test_jobs_are_counted_by_step():
    written = io.StringIO()
    states = Counter({("gate", "RUNNING"): 1, ("gate", "FIZZLED"): 2, ("propose", "COMPLETED"): 3})
    with WorkProgress(Console(file=written)) as show:
        show.show_jobs(states)
        show.show_jobs(states)
    assert written.getvalue() == "propose 3/3\n"
    written = io.StringIO()
    with WorkProgress(Console(file=written, force_terminal=True, width=100)) as show:
        show.show_jobs(states)
    assert "2/3" in written.getvalue()
    assert "1 running" in written.getvalue()
    assert "2 failed" in written.getvalue()
