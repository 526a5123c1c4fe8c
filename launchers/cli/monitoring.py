"""Commands that monitor campaigns and this machine, and recover lost jobs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launchers.cli import common as cli
from launchers.console import output as console
from launchers.console.quantities import counted

if TYPE_CHECKING:
    from launchers.monitor.status.status_document import Status


@cli.command("status mg-mn-o --build", "status --watch --every 60")
def status(
    campaign: cli.OneOrAllCampaigns = None,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=1, help="Seconds between updates.")] = 10,
    as_json: cli.AsJson = False,
    build: Annotated[bool, typer.Option("--build", help="Update candidates first.")] = False,
    launchpad: cli.Launchpad = cli.LAUNCHPAD_DEFAULT,
) -> None:
    """Show the progress of campaigns: funnel, jobs, workers, throughput, failures and problems.

    The exit code is 1 if a campaign is stuck: work remains, but no job is READY, RESERVED or
    RUNNING. Otherwise, and always with --watch, it is 0.
    """
    from launchers.monitor.status import table
    from launchers.monitor.status.survey import survey

    with cli.open_databases(launchpad) as databases:

        def look() -> Status:
            if build:
                from launchers.launchpad.builders import build_candidates

                build_candidates(databases)
            return survey(databases, campaign)

        if watch:
            table.watch(look, every, as_json=as_json)
            return
        current = look()
    if as_json:
        typer.echo(current.model_dump_json(indent=1))
    else:
        console.out.print(table.status_tables(current))
    if any(progress.is_stuck for progress in current.campaigns):
        raise typer.Exit(cli.EXIT_FAILURE)


@cli.command("recover --dry-run", "recover mg-mn-o --silent-for 7200")
def recover(
    campaign: cli.OneOrAllCampaigns = None,
    dry_run: cli.DryRun = False,
    silent_for: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Time without a ping after which a run on another machine counts as lost; "
            "default: RUN_EXPIRATION_SECS of FireWorks.",
            metavar="SECONDS",
        ),
    ] = None,
    launchpad: cli.Launchpad = cli.LAUNCHPAD_DEFAULT,
) -> None:
    """Recover jobs of killed workers, ended batch jobs and crashed machines.

    Queues lost runs and orphaned reservations again, removes stale locks of workflows, and queues
    jobs that could not be imported but now can. A job that was lost three times is marked as
    failed. Jobs of live workers are not changed, so this command is safe at any time.
    """
    from launchers.launchpad.feeder import feed_all
    from launchers.launchpad.registry import registered
    from launchers.launchpad.units import CampaignUnits
    from launchers.monitor.lost_runs import as_findings, repairs
    from launchers.monitor.recovery import Recovery

    with cli.open_databases(launchpad) as databases:
        owners = CampaignUnits(registered(databases, campaign)).owners if campaign else None
        settings = {} if silent_for is None else {"silent_for": silent_for}
        lost_jobs = Recovery.of(databases, owners, **settings).recover(dry_run=dry_run)
        if lost_jobs:
            findings = as_findings(lost_jobs, are_repaired=not dry_run)
            console.out.print(console.findings_table(findings))
        console.out.print(repairs(lost_jobs, dry_run=dry_run))
        # The job that queues further workflows may have been lost.
        n_queued = 0 if dry_run else feed_all(databases, campaign)
    if n_queued:
        console.out.print(f"{counted(n_queued, 'workflow')} queued.")


@cli.command("doctor", "doctor campaign.yaml")
def doctor(
    campaign_file: Annotated[
        Path | None,
        cli.path_argument(
            "Check only requirements of this campaign; default: check everything.", "CAMPAIGN.YAML"
        ),
    ] = None,
    launchpad: cli.Launchpad = cli.LAUNCHPAD_DEFAULT,
    workdir: cli.Workdir = cli.WORKDIR_DEFAULT,
    as_json: cli.AsJson = False,
    strict: cli.Strict = False,
) -> None:
    """Check this machine and the databases, and suggest a fix for each problem.

    The exit code is 1 after a failure (with --strict, also after a warning), otherwise 0.
    """
    from launchers.monitor.doctor.diagnosis import diagnose

    findings = diagnose(campaign_file, launchpad, workdir)
    cli.conclude(findings, as_json=as_json, strict=strict)
