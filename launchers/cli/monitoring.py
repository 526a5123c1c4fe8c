"""Commands that monitor campaigns and this machine, and recover lost jobs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launchers.cli.common import (
    EXIT_FAILURE,
    LAUNCHPAD_DEFAULT,
    WORKDIR_DEFAULT,
    AsJson,
    DryRun,
    Launchpad,
    OneOrAllCampaigns,
    Strict,
    Workdir,
    command,
    conclude,
)
from launchers.console import output as console
from launchers.console.quantities import counted

if TYPE_CHECKING:
    from launchers.monitor.status.status_document import Status


@command("status mg-mn-o --build", "status --watch --every 60")
def status(
    campaign: OneOrAllCampaigns = None,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=1, help="Seconds between updates.")] = 10,
    as_json: AsJson = False,
    build: Annotated[bool, typer.Option("--build", help="Update the funnel first.")] = False,
    launchpad: Launchpad = LAUNCHPAD_DEFAULT,
) -> None:
    """Tell how campaigns stand: funnel, jobs, workers, throughput, failures, and what hinders.

    Ends with exit code 0, or 1 if a campaign stands still: structures are left to judge, or jobs
    wait, and none is READY, RESERVED or RUNNING. With --watch always with 0.
    """
    from launchers.launchpad.database import open_databases
    from launchers.monitor.status import table
    from launchers.monitor.status.survey import survey

    with open_databases(launchpad) as databases:

        def look() -> Status:
            if build:
                from launchers.launchpad.builders import build_candidates

                build_candidates(databases)
            return survey(databases, campaign)

        if watch:
            table.watch(look, every, as_json=as_json)
            return
        found = look()
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
    else:
        console.out.print(table.everything(found))
    if any(each.is_stuck for each in found.campaigns):
        raise typer.Exit(EXIT_FAILURE)


@command("recover --dry-run", "recover mg-mn-o --silent-for 7200")
def recover(
    campaign: OneOrAllCampaigns = None,
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
    """Queue jobs again that were lost with killed workers, batch jobs and machines.

    Lost runs and reservations, workflows left locked, and jobs that could not be imported and now
    can, are queued again; a job that was lost three times is marked as failed. Jobs of workers
    that are alive are left alone: it is safe at any time, and as often as you like.
    """
    from launchers.launchpad.database import open_databases
    from launchers.launchpad.feeder import feed_all
    from launchers.launchpad.registry import registered
    from launchers.launchpad.units import CampaignUnits
    from launchers.monitor.lost_runs import as_findings, repairs
    from launchers.monitor.recovery import Recovery

    with open_databases(launchpad) as databases:
        owners = CampaignUnits(registered(databases, campaign)).owners if campaign else None
        settings = {} if silent_for is None else {"silent_for": silent_for}
        lost_jobs = Recovery.of(databases, owners, **settings).recover(dry_run=dry_run)
        if lost_jobs:
            console.out.print(console.findings_table(as_findings(lost_jobs)))
        console.out.print(repairs(lost_jobs, dry_run=dry_run))
        # The release of what has waited may be among what was lost for good.
        n_queued = 0 if dry_run else feed_all(databases, campaign)
    if n_queued:
        console.out.print(f"{counted(n_queued, 'workflow')} queued that could start.")


@command("doctor", "doctor campaign.yaml")
def doctor(
    campaign_file: Annotated[
        Path | None,
        typer.Argument(help="Check what it needs; default: all.", metavar="[CAMPAIGN.YAML]"),
    ] = None,
    launchpad: Launchpad = LAUNCHPAD_DEFAULT,
    workdir: Workdir = WORKDIR_DEFAULT,
    as_json: AsJson = False,
    strict: Strict = False,
) -> None:
    """Check this machine and the databases, and name the fix of each problem.

    Ends with exit code 0, or 1 after a failure (or a warning, with --strict).
    """
    from launchers.monitor.doctor.diagnosis import diagnose

    findings = diagnose(campaign_file, launchpad, workdir)
    conclude(findings, as_json=as_json, strict=strict)
