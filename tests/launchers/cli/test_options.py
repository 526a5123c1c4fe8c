from __future__ import annotations

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from launchers.cli.options import SeveralValues

app = typer.Typer()


@app.command(cls=SeveralValues)
def command(
    file: str,
    against: Annotated[list[str] | None, typer.Option()] = None,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    typer.echo(f"{file} {','.join(against or ())} {seed}")


@pytest.mark.parametrize(
    ("arguments", "parsed"),
    [
        ("model", "model  0"),
        ("model --against a b c", "model a,b,c 0"),
        ("model --against a --against b --seed 3", "model a,b 3"),
        ("model --against a b --seed 3", "model a,b 3"),
        ("--seed 3 model --against=a", "model a 3"),
    ],
)
def test_options_accept_several_values(arguments, parsed):
    assert CliRunner().invoke(app, arguments.split()).output.strip() == parsed


def test_option_without_a_value_is_rejected():
    assert CliRunner().invoke(app, ["model", "--against"]).exit_code == 2
