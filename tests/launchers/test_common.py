"""How commands end."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from launchers.cli import app
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


@pytest.mark.parametrize("command", ["", "train", "archive write"])
def test_every_command_has_a_short_option_for_help(command):
    short, long = (CliRunner().invoke(app, [*command.split(), name]) for name in ("-h", "--help"))
    assert short.exit_code == 0
    assert short.output == long.output


@pytest.mark.parametrize("option", ["--launchpad", "--workdir"])
def test_an_empty_path_is_refused(option):
    result = CliRunner().invoke(app, ["run", "campaign.yaml", option, ""])
    assert result.exit_code == 2
    assert "is empty" in result.stderr
