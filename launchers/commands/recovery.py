"""The command that takes up what was lost."""

from __future__ import annotations

from typing import Annotated

import typer

from launchers import console
from launchers.commands.common import LAUNCHPAD_DEFAULT, DryRun, Launchpad, app
from launchers.words import counted


@app.command(
    epilog="Examples: [bold]gan-htvs recover --dry-run[/bold], "
    "[bold]gan-htvs recover mg-mn-o --silent-for 7200[/bold]"
)
def recover(
    campaign: Annotated[
        str | None, typer.Argument(help="Name of a campaign; default: all jobs.")
    ] = None,
    dry_run: DryRun = False,
    silent_for: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="A run that cannot be seen from here is lost if nothing was heard of it for "
            "longer; default: RUN_EXPIRATION_SECS of FireWorks.",
            metavar="SECONDS",
        ),
    ] = None,
    launchpad: Launchpad = LAUNCHPAD_DEFAULT,
) -> None:
    """Take up what was lost with killed workers, batch jobs and machines, and say what was done.

    Lost runs and reservations, workflows left locked, and jobs that could not be imported and now
    can, are queued again; a job that was lost three times is marked as failed. Jobs of workers
    that are alive are left alone: it is safe at any time, and as often as you like.
    """
    from launchers.database import open_databases
    from launchers.feeder import feed_all
    from launchers.recovery import Recovery

    with open_databases(launchpad) as databases:
        recovery = Recovery.of(databases, campaign, silent_for)
        losses = recovery.recover(dry_run=dry_run)
        console.print_losses(losses, dry_run=dry_run)
        # The release of what has waited may be among what was lost for good.
        n_queued = 0 if dry_run else feed_all(databases, campaign)
    if n_queued:
        console.out.print(f"{counted(n_queued, 'workflow')} queued that could start.")
