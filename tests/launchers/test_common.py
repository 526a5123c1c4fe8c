"""How commands end."""

from __future__ import annotations

import pytest
import typer

from launchers.commands.common import EXIT_INTERRUPTED, told_in_one_sentence


def wrapped():
    raise RuntimeError("Error calling __set_name__") from KeyboardInterrupt()


def plain():
    raise KeyboardInterrupt


@pytest.mark.parametrize("interrupt", [wrapped, plain])
def test_an_interrupt_is_one_also_in_the_middle_of_an_import(interrupt, capsys):
    with pytest.raises(typer.Exit) as ended, told_in_one_sentence():
        interrupt()
    assert ended.value.exit_code == EXIT_INTERRUPTED
    assert "the same command goes on from here" in " ".join(capsys.readouterr().err.split())


def test_other_errors_are_not_taken_for_one():
    with pytest.raises(RuntimeError, match="too hot"), told_in_one_sentence():
        raise RuntimeError("too hot")
