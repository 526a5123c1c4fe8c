"""Commands about this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launchers.commands.common import (
    EXIT_CHECK_FAILED,
    LAUNCHPAD_DEFAULT,
    WORKDIR_DEFAULT,
    Launchpad,
    Workdir,
    app,
    told_in_one_sentence,
)


@app.command(
    epilog="Examples: [bold]gan-htvs doctor[/bold], [bold]gan-htvs doctor campaign.yaml[/bold]"
)
def doctor(
    campaign_file: Annotated[
        Path | None,
        typer.Argument(help="Ask for what it needs; default: for all.", metavar="[CAMPAIGN.YAML]"),
    ] = None,
    launchpad: Launchpad = LAUNCHPAD_DEFAULT,
    workdir: Workdir = WORKDIR_DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="Write a JSON array.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="A warning is a failure.")] = False,
) -> None:
    """Examine this machine and the databases, and name the cure of whatever is wrong.

    Ends with exit code 0, or 1 after a failure (or a warning, with --strict).
    """
    with told_in_one_sentence():
        from launchers.doctor import table
        from launchers.doctor.check import has_failed
        from launchers.doctor.diagnosis import diagnose

        with table.watching() as watch:
            checks = diagnose(campaign_file, launchpad, workdir, watch=watch)
        if as_json:
            typer.echo(table.as_json(checks))
        else:
            table.print_table(checks)
    if has_failed(checks, strict=strict):
        raise typer.Exit(EXIT_CHECK_FAILED)
