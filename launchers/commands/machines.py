"""Commands about this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launchers.commands.common import (
    LAUNCHPAD_DEFAULT,
    WORKDIR_DEFAULT,
    AsJson,
    Launchpad,
    Strict,
    Workdir,
    app,
    conclude,
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
    as_json: AsJson = False,
    strict: Strict = False,
) -> None:
    """Examine this machine and the databases, and name the cure of whatever is wrong.

    Ends with exit code 0, or 1 after a failure (or a warning, with --strict).
    """
    from launchers.doctor import table
    from launchers.doctor.diagnosis import diagnose

    with table.watching() as watch:
        checks = diagnose(campaign_file, launchpad, workdir, watch=watch)
    conclude(checks, as_json=as_json, strict=strict)
