from __future__ import annotations

import io
from collections import Counter

import pytest
from rich.console import Console

from launchers.console.output import WorkProgress


def test_unused_progress_prints_nothing_without_a_terminal():
    output = io.StringIO()
    with pytest.raises(ValueError, match="failed"), WorkProgress(Console(file=output)):
        raise ValueError("failed")
    assert output.getvalue() == ""


def test_completion_is_one_line_without_a_terminal():
    output = io.StringIO()
    with WorkProgress(Console(file=output)) as show:
        for done in range(4):
            show("relaxing", done, 3)
    assert output.getvalue() == "relaxing 3/3\n"


def test_terminal_shows_one_bar_per_label():
    output = io.StringIO()
    with WorkProgress(Console(file=output, force_terminal=True, width=80)) as show:
        show("sampling", 1, 2)
        show("relaxing", 3, 3)
    assert "sampling" in output.getvalue()
    assert "3/3" in output.getvalue()


def test_jobs_are_counted_by_step():
    output = io.StringIO()
    states = Counter({("gate", "RUNNING"): 1, ("gate", "FIZZLED"): 2, ("propose", "COMPLETED"): 3})
    with WorkProgress(Console(file=output)) as show:
        show.show_jobs(states)
        show.show_jobs(states)
    assert output.getvalue() == "propose 3/3\n"
    output = io.StringIO()
    with WorkProgress(Console(file=output, force_terminal=True, width=100)) as show:
        show.show_jobs(states)
    assert "2/3" in output.getvalue()
    assert "1 running" in output.getvalue()
    assert "2 failed" in output.getvalue()
