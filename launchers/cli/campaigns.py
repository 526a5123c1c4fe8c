"""Commands that create, run and submit campaigns."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_htvs.core.errors import UserError
from launchers.cli import common as cli
from launchers.cli.options import FunnelTemplate, SeveralValues, Words, several
from launchers.console import output as console
from launchers.console.quantities import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gan_htvs.campaign.model import Campaign
    from launchers.launchpad.database import Databases
    from launchers.monitor.findings import Finding

REHEARSALS_DEFAULT = Path("gan_htvs_data/rehearsal")


@cli.command("demo")
def demo(
    launchpad: cli.Launchpad = cli.LAUNCHPAD_DEFAULT,
    workdir: cli.Workdir = cli.WORKDIR_DEFAULT,
    workers: cli.Workers = cli.N_CORES,
) -> None:
    """Run the demonstration campaign: 3 compositions x 5 structures, up to a computed band gap.

    No GPU, VASP, MongoDB server or API key is needed. If there is no my_launchpad.yaml, this
    command writes one for the embedded database.
    """
    if not launchpad.exists():
        cli.write_template("my_launchpad.yaml", launchpad)
    template = resources.files("launchers.cli") / "templates" / "demo.yaml"
    with resources.as_file(template) as campaign_file:
        _run_here(cli.read_campaign(campaign_file), launchpad, workdir, workers)


@cli.command(
    "init my-search",
    "init --system Ca-Mn-O my-search",
    "init --system Li-Mn-O --template cathode hosts",
)
def init(
    directory: Annotated[
        Path, cli.path_argument("Folder of the files; created if missing.")
    ] = Path(),
    system: Annotated[
        str, typer.Option(help="Chemical system, such as Ca-Mn-O; Mg-Mn-O gives the demo.")
    ] = "Mg-Mn-O",
    template: Annotated[
        FunnelTemplate,
        typer.Option(
            help="Stages of the funnel: the published search for photoanodes, hosts of cathodes "
            "(hull and oxidation states), or only the hull."
        ),
    ] = FunnelTemplate.PHOTOANODE,
) -> None:
    """Write a campaign.yaml and a my_launchpad.yaml to start from."""
    campaign_file, launchpad = directory / "campaign.yaml", directory / "my_launchpad.yaml"
    for target in (campaign_file, launchpad):
        if target.exists():
            raise UserError(
                f"{target}: exists and is not overwritten; delete it or choose another folder."
            )
    from launchers.cli.starting_campaign import starting_campaign

    cli.write_text(starting_campaign(system, template), campaign_file)
    cli.write_template("my_launchpad.yaml", launchpad)


@cli.command("run campaign.yaml --workers 8")
def run(
    campaign_file: cli.CampaignFile,
    launchpad: cli.Launchpad = cli.LAUNCHPAD_DEFAULT,
    workdir: cli.Workdir = cli.WORKDIR_DEFAULT,
    workers: cli.Workers = cli.N_CORES,
) -> None:
    """Run a campaign on this machine, or resume an interrupted run.

    The exit code is 1 if a job failed, or if work is left that cannot run, such as paused jobs.
    """
    _run_here(cli.read_campaign(campaign_file), launchpad, workdir, workers)


@cli.command(
    "evaluate-structures my-cifs --name mine --band-gap none",
    "evaluate-structures my-cifs --references references.json",
)
def evaluate_structures(
    folder: Annotated[
        Path,
        cli.path_argument(
            "Folder of structure files: CIF, POSCAR, extended XYZ, JSON of pymatgen."
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="Campaign name; default: the name of DIR.")
    ] = None,
    band_gap: Annotated[str, typer.Option(help="Code for band gaps: gpaw, vasp or none.")] = "gpaw",
    references: Annotated[
        Path | None,
        cli.path_option(
            "File or folder of reference phases; default: those of the package.",
            "--references",
            metavar="PATH",
        ),
    ] = None,
    launchpad: cli.Launchpad = cli.LAUNCHPAD_DEFAULT,
    workdir: cli.Workdir = cli.WORKDIR_DEFAULT,
    workers: cli.Workers = cli.N_CORES,
) -> None:
    """Compute energy above hull, Pourbaix stability and band gap of your own structures.

    The results are stored as candidates of the proposer 'user'. Running the command again computes
    only missing results.
    """
    from gan_htvs.campaign.campaign_file import campaign_for_structures

    name = name or folder.resolve().name
    campaign = campaign_for_structures(folder, name, band_gap, references)
    for sentence in campaign.structures.source_notes if campaign.structures else ():
        console.note(sentence)
    if not launchpad.exists():
        cli.write_template("my_launchpad.yaml", launchpad)
    _run_here(campaign, launchpad, workdir, workers)


@cli.command("submit campaign.yaml --dry-run", "submit campaign.yaml")
def submit(
    campaign_file: cli.CampaignFile,
    launchpad: cli.Launchpad = cli.LAUNCHPAD_DEFAULT,
    dry_run: cli.DryRun = False,
    extend: Annotated[
        bool,
        typer.Option("--extend", help="Apply changed settings to a submitted campaign."),
    ] = False,
    workflows_at_once: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Maximum number of unfinished workflows on the launchpad; default: 20, or the "
            "number of the last submission.",
        ),
    ] = None,
    cores_per_node: Annotated[
        int, typer.Option(min=1, help="Cores per CPU node, for the estimate of --dry-run.")
    ] = 64,
) -> None:
    """Queue a campaign for the workers of a cluster.

    References and training are queued first. Workflows that depend on them start when their output
    exists, and each finished workflow queues further ones. Submitting a campaign again queues only
    missing and archived work. The exit code is 1 if work is left that cannot run, such as paused
    jobs.
    """
    campaign = cli.read_campaign(campaign_file)
    from launchers.cli.plan_tables import print_plan, submit_and_print

    _check_data(campaign)
    reason = _reason_against_vasp(campaign)
    with cli.open_databases(launchpad) as databases:
        if reason is not None:
            console.note(f"{reason}. Make sure that VASP is available where the jobs run.")
        if dry_run:
            print_plan(campaign, databases, cores_per_node=cores_per_node, extend=extend)
        else:
            is_stuck = submit_and_print(
                campaign, databases, extend=extend, workflows_at_once=workflows_at_once
            )
            if is_stuck:
                raise typer.Exit(cli.EXIT_FAILURE)


@cli.command(
    "rehearse campaign.yaml --compositions MgMn2O4 --atoms-per-cell 7 --fail killed=0.1",
    cls=SeveralValues,
)
def rehearse(
    campaign_file: cli.CampaignFile,
    structures: Annotated[
        int, typer.Option(min=1, help="Structures per composition and proposer.")
    ] = 2,
    compositions: cli.Compositions = None,
    atoms_per_cell: cli.AtomsPerCell = None,
    fail: Annotated[
        Words, several("Share of calculations that fail, by failure mode.", "MODE=SHARE")
    ] = None,
    workdir: Annotated[
        Path,
        cli.path_option("Folder of all rehearsals; one subfolder per campaign.", "--workdir", "-w"),
    ] = REHEARSALS_DEFAULT,
    workers: cli.Workers = cli.N_CORES,
) -> None:
    """Run a small copy of a VASP campaign with a stand-in for VASP.

    A rehearsal tests the same flows, Makers, custodian handlers, parsers and builders without VASP
    or POTCARs. Its numbers are not results. It has a separate database, which other commands read
    only with --launchpad.
    """
    campaign = cli.read_campaign(campaign_file)
    from launchers.cli.plan_tables import print_counts
    from launchers.monitor.doctor.vasp_checks import requirements
    from launchers.rehearsal.counts import read_counts
    from launchers.rehearsal.environment import stand_in
    from launchers.rehearsal.failure_modes import parse_shares
    from launchers.rehearsal.small_campaign import own_launchpad, potcars_of, rehearsal_of

    rehearsal = rehearsal_of(
        campaign, structures, cli.chosen_compositions(compositions, atoms_per_cell)
    )
    _check_data(rehearsal)
    requirements(rehearsal)  # raises if atomate2's settings change the level of theory
    folder = workdir / campaign.name
    launchpad = own_launchpad(folder)
    failures = ",".join(fail) if fail else None
    parse_shares(failures or "", source="--fail")
    with (
        stand_in(folder / "potcars", *potcars_of(rehearsal), failures),
        cli.open_databases(launchpad) as databases,
    ):
        exit_code = _run(rehearsal, databases, launchpad, workdir, workers)
        print_counts(read_counts(databases))
    console.note(
        "A stand-in replaced VASP: the numbers above are not results. List the candidates of "
        f"this rehearsal with `gan-htvs candidates -l {launchpad}`; `status`, `show` and "
        "`retry` take the same option."
    )
    raise typer.Exit(exit_code)


@cli.command("retry mg-mn-o --dry-run", "retry mg-mn-o --reason 'max_seconds'")
def retry(
    campaign: cli.CampaignName = None,
    reason: Annotated[
        str, typer.Option(help="Only jobs whose failure reason contains this text.")
    ] = "",
    dry_run: cli.DryRun = False,
    launchpad: cli.Launchpad = cli.LAUNCHPAD_DEFAULT,
) -> None:
    """Queue failed jobs again, and the jobs that depend on them.

    Lists the failed jobs by reason, with the folder of one example each. This command only queues
    the jobs: run them with `gan-htvs run` or the workers of your cluster.
    """
    from launchers.launchpad.builders import build_candidates
    from launchers.launchpad.registry import registered
    from launchers.monitor.failed_calculations import failed_calculations, queue_again, raised_jobs
    from launchers.monitor.status.status_document import count_failures

    with cli.open_databases(launchpad) as databases:
        settings = registered(databases, campaign)
        build_candidates(databases)
        all_failed = failed_calculations(databases, settings)
        all_failed += raised_jobs(databases.launchpad(), settings)
        failed = [job for job in all_failed if reason in job.reason]
        if all_failed and not failed:
            raise UserError(
                f"--reason {reason!r}: no failed job has such a reason ({len(all_failed)} "
                "searched); omit it to list all reasons."
            )
        if not failed:
            typer.echo("No failed calculations.")
            return
        counts = count_failures("job", ((f.step, f.reason, f.folder or "-") for f in failed))
        rows = [(count.step, count.reason, count.example, count.n) for count in counts]
        head = ("step", "reason", "example", "failed")
        console.out.print(console.grid_table(console.Grid(None, head, rows)))
        if not dry_run:
            queue_again(databases.launchpad(), failed)
            typer.echo(f"{counted(len(failed), 'job')} queued again; run them with `gan-htvs run`.")


@cli.command("settings | grep stages")
def settings() -> None:
    """Print all settings of campaign.yaml with defaults and descriptions, as Markdown."""
    from gan_htvs.campaign.model import Campaign
    from launchers.cli.settings_reference import as_markdown, settings_of

    typer.echo(as_markdown(settings_of(Campaign)))


def _run_here(campaign: Campaign, launchpad: Path, workdir: Path, workers: int) -> None:
    """Run a campaign, unless it needs VASP and VASP cannot run on this machine."""
    from launchers.launchpad.launchpad_file import LaunchpadFile

    LaunchpadFile.read(launchpad)  # before the slow imports
    _check_data(campaign)
    if (reason := _reason_against_vasp(campaign)) is not None:
        raise UserError(f"nothing was queued, because VASP cannot run here: {reason}.")
    with cli.open_databases(launchpad) as databases:
        raise typer.Exit(_run(campaign, databases, launchpad, workdir, workers))


def _run(
    campaign: Campaign, databases: Databases, launchpad: Path, workdir: Path, workers: int
) -> int:
    """Run a campaign and print its summary; return the exit code."""
    from launchers.cli.campaign_summary import print_heading, print_summary, print_unfinished
    from launchers.local.run import run_campaign

    print_heading(campaign)
    directory = workdir / campaign.name
    with console.WorkProgress() as progress:
        run_campaign(campaign, databases, launchpad, directory, workers, progress)
    has_failed = print_summary(campaign, databases, launchpad)
    is_unfinished = print_unfinished(campaign.name, databases)
    return cli.EXIT_FAILURE if has_failed or is_unfinished else 0


def _check_data(campaign: Campaign) -> None:
    """Check the data that a campaign needs, and print what is incomplete."""
    from launchers.monitor.doctor.diagnosis import aqueous_ions, reference_phases

    for settings in campaign.properties.values():
        settings.load()
    findings = [reference_phases(campaign)]
    if campaign.aqueous_conditions is not None:
        findings.append(aqueous_ions(campaign, campaign.aqueous_conditions))
    _print_warnings(findings)


def _reason_against_vasp(campaign: Campaign) -> str | None:
    """Check VASP for a campaign; return the reason why it cannot run here, if any."""
    from launchers.monitor.doctor.vasp_checks import requirements

    findings = requirements(campaign)
    _print_warnings(findings)
    failures = (finding.text for finding in findings if finding.severity == "failure")
    return next(failures, None)


def _print_warnings(findings: Iterable[Finding]) -> None:
    """Print a note for each finding that is a warning."""
    for finding in findings:
        if finding.severity == "warning":
            console.note(f"{finding.text}.")
