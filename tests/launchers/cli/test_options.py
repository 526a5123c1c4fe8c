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
    ("arguments", "read"),
    [
        ("model", "model  0"),
        ("model --against a b c", "model a,b,c 0"),
        ("model --against a --against b --seed 3", "model a,b 3"),
        ("model --against a b --seed 3", "model a,b 3"),
        ("--seed 3 model --against=a", "model a 3"),
    ],
)
def test_values_follow_their_option(arguments, read):
    assert CliRunner().invoke(app, arguments.split()).output.strip() == read


def test_an_option_without_a_value_is_refused():
    assert CliRunner().invoke(app, ["model", "--against"]).exit_code == 2
