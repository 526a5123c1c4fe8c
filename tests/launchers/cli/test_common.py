"""Exit codes of commands and their common options."""

from __future__ import annotations

import errno
import os

import pytest
import typer
from typer.testing import CliRunner

from launchers.cli.common import EXIT_INTERRUPTED, EXIT_USER_ERROR, Commands
from launchers.cli.main import app


def run(function):
    app = typer.Typer(cls=Commands)
    app.command("one")(function)
    app.command("another")(lambda: None)
    return CliRunner().invoke(app, ["one"])


def wrapped():
    raise RuntimeError("Error calling __set_name__") from KeyboardInterrupt()


def plain():
    raise KeyboardInterrupt


@pytest.mark.parametrize("interrupt", [wrapped, plain])
def test_interrupt_ends_with_its_exit_code_also_during_an_import(interrupt):
    result = run(interrupt)
    assert result.exit_code == EXIT_INTERRUPTED
    assert "run the same command to resume" in " ".join(result.stderr.split())


def test_other_errors_are_not_interrupts():
    def fail():
        raise RuntimeError("too hot")

    result = run(fail)
    assert result.exit_code == 1
    assert str(result.exception) == "too hot"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EMFILE])
def test_error_of_the_operating_system_is_one_sentence(number):
    def fail():
        raise OSError(number, os.strerror(number), "runs/file")

    result = run(fail)
    assert result.exit_code == EXIT_USER_ERROR
    assert f"runs/file: {os.strerror(number)}; " in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


def test_error_of_a_library_that_derives_from_os_error_is_raised():
    def fail():
        raise OSError("no such image format")

    result = run(fail)
    assert result.exit_code == 1
    assert str(result.exception) == "no such image format"


@pytest.mark.parametrize("command", ["", "train", "archive write"])
def test_commands_have_a_short_help_option(command):
    short, long = (CliRunner().invoke(app, [*command.split(), name]) for name in ("-h", "--help"))
    assert short.exit_code == 0
    assert short.output == long.output


@pytest.mark.parametrize("option", ["--launchpad", "--workdir"])
def test_empty_path_is_rejected(option):
    result = CliRunner().invoke(app, ["run", "campaign.yaml", option, ""])
    assert result.exit_code == 2
    assert "is empty" in result.stderr
