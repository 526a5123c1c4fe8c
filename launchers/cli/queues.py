"""Commands about batch systems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from launchers.cli.common import (
    LAUNCHPAD_DEFAULT,
    WORKDIR_DEFAULT,
    AsJson,
    Launchpad,
    Strict,
    Workdir,
    app,
    conclude,
    named_path,
)
from launchers.cli.options import SeveralValues
from launchers.launchpad.batch_system import BatchSystem

queue = typer.Typer(help="Write and check the files that batch systems need.", no_args_is_help=True)
app.add_typer(queue, name="queue")

FOLDER_DEFAULT = Path("queue")
SCRATCH_DEFAULT = Path("gan_htvs_data/scratch")


def _each(help_text: str, *names: str) -> Any:
    """Make an option with a value for all categories, for some, or both."""
    return typer.Option(*names, help=f"{help_text}.", metavar="[CATEGORY=]VALUE ...")


Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="Where the files are.", parser=named_path)
]
Values = list[str] | None


@queue.command(
    cls=SeveralValues,
    epilog="Example: [bold]gan-htvs queue init --scheduler slurm --queue batch gpu=a100 "
    "--account mat123 --cores 64 gpu=8 --tasks hse=4[/bold]",
)
def init(
    scheduler: Annotated[BatchSystem, typer.Option(help="The batch system.")],
    folder: Folder = FOLDER_DEFAULT,
    queues: Annotated[Values, _each("Partition or queue", "--queue")] = None,
    account: Annotated[Values, _each("Who pays")] = None,
    walltime: Annotated[Values, _each("Of a batch job, HH:MM:SS")] = None,
    margin: Annotated[Values, _each("No job starts so near to the end, HH:MM:SS")] = None,
    nodes: Annotated[Values, _each("Nodes of a batch job")] = None,
    cores: Annotated[Values, _each("Cores of a node")] = None,
    gpus: Annotated[Values, _each("GPUs of a node")] = None,
    tasks: Annotated[Values, _each("Workers that share a batch job")] = None,
    array: Annotated[Values, _each("Batch jobs of one submission, as a job array")] = None,
    parallel_environment: Annotated[Values, _each("Parallel environment of SGE")] = None,
    launchpad: Launchpad = LAUNCHPAD_DEFAULT,
    workdir: Workdir = WORKDIR_DEFAULT,
    scratch: Annotated[
        Path,
        typer.Option(
            help="Where an interrupted training goes on from.", metavar="DIR", parser=named_path
        ),
    ] = SCRATCH_DEFAULT,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that differ.")] = False,
) -> None:
    """Write FWorker files, queue adapters, settings and an environment script for a cluster.

    The categories are gpu, cpu, dft and hse. All folders must be on a disk that the nodes see.
    Files that are there already and differ are left, unless --force is given.
    """
    from launchers.console.output import note
    from launchers.launchpad.launchpad_file import LaunchpadFile
    from launchers.queue.profiles import profiles_of
    from launchers.queue.render import make_folder, render, write

    options = {
        "queue": queues,
        "account": account,
        "walltime": walltime,
        "margin": margin,
        "nodes": nodes,
        "cores": cores,
        "gpus": gpus,
        "tasks": tasks,
        "array": array,
        "parallel_environment": parallel_environment,
    }
    settings = LaunchpadFile.read(launchpad)
    texts = render(
        folder.absolute(),
        scheduler,
        profiles_of({field: values or () for field, values in options.items()}),
        launchpad_file=launchpad.absolute(),
        workdir=workdir.absolute(),
        scratch=scratch.absolute(),
    )
    for path in (written := write(texts, force=force)):
        typer.echo(f"wrote {path}")
    if not written:
        typer.echo(f"{folder}: everything is there already.")
    make_folder(workdir)
    make_folder(scratch)
    if settings.is_local:
        note(f"{launchpad}: {settings.address} is this machine, and other nodes cannot reach it.")
    typer.echo(f"Next: `gan-htvs queue check {folder}`, then see {folder / 'README.md'}.")


@queue.command(epilog="Example: [bold]gan-htvs queue check queue --campaign campaign.yaml[/bold]")
def check(
    folder: Folder = FOLDER_DEFAULT,
    campaign: Annotated[
        Path | None,
        typer.Option(help="What it needs must be there.", metavar="CAMPAIGN.YAML"),
    ] = None,
    as_json: AsJson = False,
    strict: Strict = False,
) -> None:
    """Check the files of a cluster, its queues and the database, and name the fix of each problem.

    Ends with exit code 0, or 1 after a failure (or a warning, with --strict).
    """
    from launchers.queue.check import check_folder

    settings = None
    if campaign is not None:
        from gan_htvs.campaign.campaign_file import parse_campaign

        settings = parse_campaign(campaign)
    conclude(check_folder(folder.absolute(), settings), as_json=as_json, strict=strict)
