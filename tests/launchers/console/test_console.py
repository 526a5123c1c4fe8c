from __future__ import annotations

import io
from collections import Counter

import pytest
from rich.console import Console

from gan_htvs.results.funnel import measure_funnel
from launchers.console import output
from launchers.console.output import WorkProgress, funnel_table
from tests.helpers import mg_o


def test_unused_progress_prints_nothing_without_a_terminal():
    text = io.StringIO()
    with pytest.raises(ValueError, match="failed"), WorkProgress(Console(file=text)):
        raise ValueError("failed")
    assert text.getvalue() == ""


def test_completion_is_one_line_without_a_terminal():
    text = io.StringIO()
    with WorkProgress(Console(file=text)) as show:
        for done in range(4):
            show("relaxing", done, 3)
    assert text.getvalue() == "relaxing 3/3\n"


def test_notes_are_shown_at_once_without_a_terminal():
    text = io.StringIO()
    with WorkProgress(Console(file=text)) as show:
        show("queries", 0, 3)
        show("queries", 0, 3, "server busy")
        show("queries", 1, 3)
    assert text.getvalue() == "queries 0/3, server busy\n"


def test_terminal_shows_one_bar_per_label():
    text = io.StringIO()
    with WorkProgress(Console(file=text, force_terminal=True, width=80)) as show:
        show("sampling", 1, 2)
        show("relaxing", 3, 3)
    assert "sampling" in text.getvalue()
    assert "3/3" in text.getvalue()


def test_jobs_are_counted_by_step():
    text = io.StringIO()
    states = Counter({("gate", "RUNNING"): 1, ("gate", "FIZZLED"): 2, ("propose", "COMPLETED"): 3})
    with WorkProgress(Console(file=text)) as show:
        show.show_jobs(states)
        show.show_jobs(states)
    assert text.getvalue() == "propose 3/3\n"
    text = io.StringIO()
    with WorkProgress(Console(file=text, force_terminal=True, width=100)) as show:
        show.show_jobs(states)
    assert "2/3" in text.getvalue()
    assert "1 running" in text.getvalue()
    assert "2 failed" in text.getvalue()


def test_unfinished_steps_share_one_line(monkeypatch):
    monkeypatch.setattr(output, "PLAIN_INTERVAL", 0)
    text = io.StringIO()
    states = Counter({("propose", "READY"): 3, ("gate", "RUNNING"): 1, ("gate", "COMPLETED"): 2})
    with WorkProgress(Console(file=text)) as show:
        show.show_jobs(states)
    assert text.getvalue() == "propose 0/3; gate 2/3, 1 running\n"


def test_lines_have_the_time_left(monkeypatch):
    monkeypatch.setattr(output, "PLAIN_INTERVAL", 0)
    seconds = iter(range(0, 10_000, 100))
    text = io.StringIO()
    with WorkProgress(Console(file=text)) as show:
        monkeypatch.setattr(show._bars, "get_time", lambda: float(next(seconds)))
        for done in range(4):
            show("relaxing", done, 6)
    *_, last = text.getvalue().splitlines()
    assert last.startswith("relaxing 3/6, ")
    assert last.endswith(" min left")


@pytest.mark.parametrize("is_terminal", [False, True])
def test_known_remaining_time_replaces_the_estimate(monkeypatch, is_terminal):
    text = io.StringIO()
    with WorkProgress(Console(file=text, force_terminal=is_terminal, width=100)) as show:
        seconds = iter(range(0, 100_000, 100))
        monkeypatch.setattr(show._bars, "get_time", lambda: float(next(seconds)))
        for done in range(4):
            show("training", done, 6, "loss 0.1", seconds_left=40.0)
        show._bars.refresh()
    assert "40 s left" in text.getvalue()
    assert "min left" not in text.getvalue()
    if not is_terminal:
        assert all(line.count("left") == 1 for line in text.getvalue().splitlines())


@pytest.mark.parametrize(("engine", "level"), [("none", "no gaps"), ("gpaw", "gpaw")])
def test_funnel_names_the_levels_of_theory(engine, level):
    campaign = mg_o(engines={"band_gap": {"name": engine}})
    title = funnel_table(campaign, measure_funnel([], campaign)).title
    assert title == f"Funnel of mg-o (measured: chgnet, {level})"
