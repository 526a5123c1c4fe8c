"""The command that tells how campaigns stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from launchers.commands.common import (
    EXIT_CAMPAIGN_STANDS_STILL,
    LAUNCHPAD_DEFAULT,
    Launchpad,
    app,
)

if TYPE_CHECKING:
    from launchers.status.document import Status


@app.command(
    epilog="Examples: [bold]gan-htvs status mg-mn-o --build[/bold], "
    "[bold]gan-htvs status --watch --every 60[/bold]"
)
def status(
    campaign: Annotated[
        str | None, typer.Argument(help="Name of a campaign; default: all.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option(min=1, help="Time between two looks.", metavar="SECONDS")
    ] = 10,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write a JSON document; with --watch one a line.")
    ] = False,
    build: Annotated[
        bool, typer.Option("--build", help="Bring the funnel up to date first.")
    ] = False,
    launchpad: Launchpad = LAUNCHPAD_DEFAULT,
) -> None:
    """Tell how campaigns stand: funnel, jobs, workers, throughput, failures, and what hinders.

    Ends with exit code 0, or 1 if a campaign stands still: structures are left to judge, or jobs
    wait, and none is READY, RESERVED or RUNNING. With --watch always with 0.
    """
    from launchers.builders import build_candidates
    from launchers.database import open_databases
    from launchers.status import table
    from launchers.status.survey import survey

    with open_databases(launchpad) as databases:

        def look() -> Status:
            if build:
                build_candidates(databases)
            return survey(databases, campaign)

        if watch:
            table.watch(look, every, as_json=as_json)
            return
        found = look()
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
    else:
        table.print_status(found)
    if any(each.is_stuck for each in found.campaigns):
        raise typer.Exit(EXIT_CAMPAIGN_STANDS_STILL)
