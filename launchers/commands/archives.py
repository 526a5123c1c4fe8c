"""Commands about campaigns as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launchers import console
from launchers.commands.common import (
    LAUNCHPAD_DEFAULT,
    CampaignName,
    Launchpad,
    OutputFile,
    app,
    path_argument,
)
from launchers.words import counted

archive = typer.Typer(help="Write campaigns as files, and read them back.", no_args_is_help=True)
app.add_typer(archive, name="archive")

ArchiveFile = Annotated[Path, path_argument("The archive.", "FILE")]


@archive.command(
    epilog="Example: [bold]gan-htvs archive write mg-mn-o-demo --output demo.zip[/bold]"
)
def write(
    campaign: CampaignName = None,
    output: OutputFile = Path("campaign.zip"),
    launchpad: Launchpad = LAUNCHPAD_DEFAULT,
) -> None:
    """Write a campaign as one file: settings, outputs, checkpoints, stability, candidates.

    With checksums and the versions of what made it. Jobs that are queued are not in it.
    """
    from launchers.archive import write_archive
    from launchers.database import open_databases

    with open_databases(launchpad) as databases, console.WorkProgress() as progress:
        manifest = write_archive(databases, campaign, output, progress)
    n_documents = sum(member.n_documents for member in manifest.members.values())
    typer.echo(f"wrote {output}: {manifest.campaign}, {counted(n_documents, 'document')}")


@archive.command(epilog="Example: [bold]gan-htvs archive read demo.zip[/bold]")
def read(file: ArchiveFile, launchpad: Launchpad = LAUNCHPAD_DEFAULT) -> None:
    """Put a campaign from an archive into the database, as it was; what is there already stays."""
    from launchers.archive import read_archive
    from launchers.database import open_databases

    with open_databases(launchpad) as databases, console.WorkProgress() as progress:
        manifest, n_new = read_archive(databases, file, progress)
    typer.echo(f"{manifest.campaign}: {counted(n_new, 'new document')}")
    typer.echo(f"Next: gan-htvs candidates --campaign {manifest.campaign}")


@archive.command(epilog="Example: [bold]gan-htvs archive check demo.zip[/bold]")
def check(file: ArchiveFile) -> None:
    """Make sure that an archive is whole, and tell what is in it."""
    from launchers.archive import check_archive

    manifest = check_archive(file)
    typer.echo(f"{file}: {manifest.campaign}, written {manifest.written_at:%Y-%m-%d %H:%M} UTC")
    for name, member in manifest.members.items():
        typer.echo(f"  {name}: {counted(member.n_documents, 'document')}")
