"""Commands for batch systems."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from launchers.cli import common as cli
from launchers.cli.options import SeveralValues, Words, several
from launchers.launchpad.batch_system import BatchSystem

queue = typer.Typer(help="Write and check the files for a batch system.", no_args_is_help=True)
cli.app.add_typer(queue, name="queue")

FOLDER_DEFAULT = Path("queue")
SCRATCH_DEFAULT = Path("gan_htvs_data/scratch")


_per_category = partial(several, metavar="[CATEGORY=]VALUE")
"""An option with a value for all categories, for some categories, or both."""

Folder = Annotated[Path, cli.path_argument("Folder of the files.")]


@cli.command(
    "queue init --scheduler slurm --queue batch gpu=a100 --account mat123 --cores 64 gpu=8 "
    "--tasks hse=4",
    of=queue,
    cls=SeveralValues,
)
def init(
    context: typer.Context,
    scheduler: Annotated[BatchSystem, typer.Option(help="The batch system.")],
    folder: Folder = FOLDER_DEFAULT,
    queue: Annotated[Words, _per_category("Partition or queue.")] = None,
    account: Annotated[Words, _per_category("Account to charge.")] = None,
    walltime: Annotated[Words, _per_category("Walltime of a batch job, HH:MM:SS.")] = None,
    margin: Annotated[
        Words, _per_category("Time before the walltime in which no job starts, HH:MM:SS.")
    ] = None,
    nodes: Annotated[Words, _per_category("Nodes per batch job.")] = None,
    cores: Annotated[Words, _per_category("Cores per node.")] = None,
    gpus: Annotated[Words, _per_category("GPUs per node.")] = None,
    tasks: Annotated[Words, _per_category("Workers per batch job.")] = None,
    array: Annotated[Words, _per_category("Batch jobs per submission, as a job array.")] = None,
    parallel_environment: Annotated[Words, _per_category("Parallel environment of SGE.")] = None,
    launchpad: cli.Launchpad = cli.LAUNCHPAD_DEFAULT,
    workdir: cli.Workdir = cli.WORKDIR_DEFAULT,
    scratch: Annotated[
        Path, cli.path_option("Folder for the state of interrupted trainings and prescreens.")
    ] = SCRATCH_DEFAULT,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite existing files with other content.")
    ] = False,
) -> None:
    """Write FWorker files, queue adapters, settings and an environment script for a cluster.

    Job categories are gpu, cpu, dft and hse. All folders must be on a file system that all nodes
    share. Existing files with other content are overwritten only with --force.
    """
    from launchers.console.output import note
    from launchers.launchpad.launchpad_file import LaunchpadFile
    from launchers.queue.profiles import Profile, profiles_of
    from launchers.queue.render import make_folder, render, write

    options = {field: context.params.get(field) or () for field in Profile.model_fields}
    settings = LaunchpadFile.read(launchpad)
    texts = render(
        folder.absolute(),
        scheduler,
        profiles_of(options),
        launchpad_file=launchpad.absolute(),
        workdir=workdir.absolute(),
        scratch=scratch.absolute(),
    )
    for path in (written := write(texts, force=force)):
        typer.echo(f"wrote {path}")
    if not written:
        typer.echo(f"{folder}: all files are up to date.")
    make_folder(workdir)
    make_folder(scratch)
    if settings.is_local:
        note(
            f"{launchpad}: {settings.address} is this machine, and other nodes cannot reach it; "
            "set `host` to its name in the network."
        )
    typer.echo(f"Next: `gan-htvs queue check {folder}`, then see {folder / 'README.md'}.")


@cli.command("queue check queue --campaign campaign.yaml", of=queue)
def check(
    folder: Folder = FOLDER_DEFAULT,
    campaign: Annotated[
        Path | None,
        cli.path_option(
            "Check the categories and time limits of this campaign.", metavar="CAMPAIGN.YAML"
        ),
    ] = None,
    as_json: cli.AsJson = False,
    strict: cli.Strict = False,
) -> None:
    """Check the files of `queue init`, the queues and the database, and suggest fixes.

    The exit code is 1 after a failure (with --strict, also after a warning), otherwise 0.
    """
    from launchers.queue.check import check_folder

    settings = None
    if campaign is not None:
        from gan_htvs.campaign.campaign_file import parse_campaign

        settings = parse_campaign(campaign)
    cli.conclude(check_folder(folder.absolute(), settings), as_json=as_json, strict=strict)
