"""Commands that start campaigns and run them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_htvs.errors import UserError
from launchers import console
from launchers.commands.common import (
    EXIT_JOBS_FAILED,
    LAUNCHPAD_DEFAULT,
    N_CORES,
    WORKDIR_DEFAULT,
    CampaignFile,
    CampaignName,
    Launchpad,
    Workdir,
    Workers,
    app,
    named_path,
    told_in_one_sentence,
    write_template,
)
from launchers.options import SeveralValues

if TYPE_CHECKING:
    from collections.abc import Callable

    from gan_htvs.campaign import Campaign
    from launchers.database import Databases


@app.command(epilog="Example: [bold]gan-htvs demo[/bold]")
def demo(
    launchpad: Launchpad = LAUNCHPAD_DEFAULT,
    workdir: Workdir = WORKDIR_DEFAULT,
    workers: Workers = N_CORES,
) -> None:
    """Run the demonstration campaign: 3 compositions x 5 structures, to a computed band gap.

    Needs no GPU, VASP, MongoDB or API key. Where my_launchpad.yaml is missing it is written,
    for the embedded database.
    """
    with told_in_one_sentence():
        if not launchpad.exists():
            write_template("my_launchpad.yaml", launchpad)
        template = resources.files("launchers.templates") / "demo.yaml"
        with resources.as_file(template) as campaign_file:
            from gan_htvs.campaign_file import read_campaign

            _run(read_campaign(campaign_file), launchpad, workdir, workers)


@app.command(epilog="Example: [bold]gan-htvs init my-search[/bold]")
def init(
    directory: Annotated[
        Path, typer.Argument(help="Created if missing.", metavar="DIR", parser=named_path)
    ] = Path(),
) -> None:
    """Write a campaign.yaml and a my_launchpad.yaml to start from."""
    with told_in_one_sentence():
        for template, name in (
            ("demo.yaml", "campaign.yaml"),
            ("my_launchpad.yaml", "my_launchpad.yaml"),
        ):
            target = directory / name
            if target.exists():
                raise UserError(f"{target}: exists already and is left as it is.")
            write_template(template, target)


@app.command(epilog="Example: [bold]gan-htvs run campaign.yaml --workers 8[/bold]")
def run(
    campaign_file: CampaignFile,
    launchpad: Launchpad = LAUNCHPAD_DEFAULT,
    workdir: Workdir = WORKDIR_DEFAULT,
    workers: Workers = N_CORES,
) -> None:
    """Run a campaign on this machine, or go on where an earlier run stopped."""
    with told_in_one_sentence():
        from gan_htvs.campaign_file import read_campaign

        _run(read_campaign(campaign_file), launchpad, workdir, workers)


@app.command(
    epilog="Examples: [bold]gan-htvs submit campaign.yaml --dry-run[/bold], "
    "[bold]gan-htvs submit campaign.yaml[/bold]; then [bold]gan-htvs qlaunch[/bold]"
)
def submit(
    campaign_file: CampaignFile,
    launchpad: Launchpad = LAUNCHPAD_DEFAULT,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count, and estimate what it takes.")
    ] = False,
    extend: Annotated[
        bool, typer.Option("--extend", help="Take over settings that may change meanwhile.")
    ] = False,
    shards_at_once: Annotated[
        int | None,
        typer.Option(min=1, help="Shards on the launchpad at one time; default: as before, or 20."),
    ] = None,
    cores_per_node: Annotated[
        int, typer.Option(min=1, help="Of the nodes that the estimate is for.")
    ] = 64,
) -> None:
    """Queue a campaign for the workers of a cluster, and leave.

    References and training are queued at once; each releases what waits for it when its output
    exists, and every shard that ends the next one. Submitting again queues only what is missing.
    """
    with told_in_one_sentence():
        from gan_htvs.campaign_file import read_campaign

        campaign = read_campaign(campaign_file)
        from launchers.database import open_databases
        from launchers.doctor.vasp import check_settings, obstacle
        from launchers.submission import print_plan, submit_campaign

        _check_references(campaign)
        check_settings(campaign)
        with open_databases(launchpad) as databases:
            if (reason := obstacle(campaign)) is not None:
                console.note(f"{reason}. Where the jobs run this must be right.")
            if dry_run:
                print_plan(campaign, databases, cores_per_node=cores_per_node, extend=extend)
            else:
                submit_campaign(campaign, databases, extend=extend, shards_at_once=shards_at_once)


@app.command(
    cls=SeveralValues,
    epilog="Example: [bold]gan-htvs rehearse campaign.yaml --compositions MgMn2O4 "
    "--fail killed=0.1 zbrent=0.2[/bold]",
)
def rehearse(
    campaign_file: CampaignFile,
    structures: Annotated[
        int, typer.Option(min=1, help="Of each composition, from each proposer.")
    ] = 2,
    compositions: Annotated[
        list[str] | None,
        typer.Option(help="Cell formulas; default: those of the campaign.", metavar="FORMULA ..."),
    ] = None,
    fail: Annotated[
        list[str] | None,
        typer.Option(help="Share of the calculations that fail so.", metavar="MODE=SHARE ..."),
    ] = None,
    core_seconds: Annotated[
        float | None,
        typer.Option(min=0, help="What a unit takes on your machine; prints core-hours, too."),
    ] = None,
    hybrid_core_seconds: Annotated[
        float | None,
        typer.Option(min=0, help="The same for a unit of exact exchange."),
    ] = None,
    launchpad: Launchpad = LAUNCHPAD_DEFAULT,
    workdir: Workdir = WORKDIR_DEFAULT,
    workers: Workers = N_CORES,
) -> None:
    """Run a campaign for VASP with a stand-in for VASP, and tell what the real one will cost.

    Same flows, Makers, custodian, parsing and database, under the name of the campaign with
    -rehearsal at its end. What it finds is labelled so and never shown beside results. Needs
    neither VASP nor POTCARs.
    """
    with told_in_one_sentence():
        from gan_htvs.campaign_file import read_campaign

        campaign = read_campaign(campaign_file)
        from launchers.estimate import survivor_share
        from launchers.rehearsal import estimate_costs, print_costs, rehearsal_of

        rehearsal = rehearsal_of(campaign, structures, compositions or (), fail or ())

        def conclude(databases: Databases) -> None:
            costs = estimate_costs(databases, rehearsal, campaign)
            print_costs(costs, core_seconds, hybrid_core_seconds)
            _, source = survivor_share(campaign, databases)
            if source:
                console.note(f"Structures in the campaign that come to VASP: {source}.")

        _run(rehearsal, launchpad, workdir, workers, conclude)


@app.command(
    epilog="Examples: [bold]gan-htvs retry mg-mn-o --dry-run[/bold], "
    "[bold]gan-htvs retry mg-mn-o --reason 'max_seconds'[/bold]"
)
def retry(
    campaign: CampaignName = None,
    reason: Annotated[
        str, typer.Option(help="Only those whose reason contains this.", metavar="TEXT")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list them.")] = False,
    launchpad: Launchpad = LAUNCHPAD_DEFAULT,
) -> None:
    """Queue exactly the jobs again that failed, and what follows from them.

    Lists them by reason, with the folder of one of each kind. Nothing runs here: `gan-htvs run`,
    or the workers of your queue, take them up.
    """
    with told_in_one_sentence():
        from launchers.builders import build_candidates
        from launchers.database import open_databases
        from launchers.failures import failed_calculations, queue_again, raised_jobs
        from launchers.registry import registered

        with open_databases(launchpad) as databases:
            settings = registered(databases, campaign)
            build_candidates(databases)
            found = failed_calculations(databases, settings)
            found += raised_jobs(databases.launchpad(), settings)
            failed = [each for each in found if reason in each.reason]
            if found and not failed:
                raise UserError(f"--reason: none of {len(found)} reasons contains {reason!r}.")
            console.print_failures(failed)
            if failed and not dry_run:
                queue_again(databases.launchpad(), failed)
                typer.echo(f"{len(failed)} jobs queued again; `gan-htvs run` goes on.")


@app.command(epilog="Example: [bold]gan-htvs settings | grep thresholds[/bold]")
def settings() -> None:
    """Print every setting of campaign.yaml with its default and meaning, as Markdown."""
    from gan_htvs.campaign import Campaign
    from launchers.handbook import as_markdown, settings_of

    typer.echo(as_markdown(settings_of(Campaign)))


def _run(
    campaign: Campaign,
    launchpad: Path,
    workdir: Path,
    workers: int,
    conclude: Callable[[Databases], None] = lambda _: None,
) -> None:
    # Imported here so that --help and errors in the files need not wait for torch.
    from launchers.database import LaunchpadFile, open_databases

    LaunchpadFile.read(launchpad)
    from launchers.doctor.vasp import check_settings, obstacle

    check_settings(campaign)
    if (reason := obstacle(campaign)) is not None:
        raise UserError(f"nothing was queued, since VASP cannot run here: {reason}.")
    _check_references(campaign)
    from gan_htvs.potentials import SHIPPED, weights_file

    if campaign.prescreen is not None:
        for descent in campaign.prescreen.potentials(campaign.engines):
            if descent.name in SHIPPED:
                weights_file(descent.name)
    from launchers import summary
    from launchers.local import LocalRun

    summary.print_heading(campaign)
    with open_databases(launchpad) as databases, console.progress() as progress:
        LocalRun(
            campaign,
            databases,
            launchpad_file=launchpad,
            directory=workdir / campaign.name,
            n_workers=workers,
            watch=progress.show,
            tell=console.note,
        ).run()
        progress.close()
        failed = summary.print_summary(campaign, databases, launchpad)
        conclude(databases)
    if failed:
        raise typer.Exit(EXIT_JOBS_FAILED)


def _check_references(campaign: Campaign) -> None:
    """Check the reference phases before anything is queued; print a note about doubts."""
    from launchers.doctor.check import State
    from launchers.doctor.phases import reference_phases

    finding = reference_phases(campaign)
    if finding.state is State.WARNING:
        console.note(f"{finding.found}: {finding.cure}.")
