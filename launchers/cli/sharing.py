"""Commands that pass results on: to browsers, other programs and other databases."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from gan_htvs.core.errors import UserError
from launchers.cli.common import (
    LAUNCHPAD_DEFAULT,
    CampaignName,
    Launchpad,
    OutputFile,
    app,
    command,
    path_argument,
    path_option,
)
from launchers.console import output as console
from launchers.console.quantities import counted
from launchers.results.serving import LOOPBACK, checked_address

Host = Annotated[
    str, typer.Option(help="Address to listen at; any but the default lets others read.")
]
Port = Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen at.")]


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Name the extra that is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is not installed; pip install 'gan-htvs[{extra}]' brings it."
        ) from error


@command("explore", "explore --port 8051 --launchpad another.yaml")
def explore(
    host: Host = LOOPBACK,
    port: Port = 8050,
    launchpad: Launchpad = LAUNCHPAD_DEFAULT,
) -> None:
    """Serve a web page: find candidates, look at them, watch campaigns, until Ctrl-C.

    It only reads the database, and needs no network.
    """
    with needing("explore"):
        import waitress

        from launchers.results.explorer.app import create_app
    from launchers.launchpad.database import open_databases

    with open_databases(launchpad) as databases:
        address = checked_address(host, port)
        page = create_app(databases, address.names)
        server = waitress.create_server(page.server, host=host, port=port, threads=8, ident=None)
        # On a busy machine requests wait a moment, which is nobody's concern.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        typer.echo(f"{address.url} shows {databases.settings.name}; Ctrl-C ends it")
        with suppress(KeyboardInterrupt):
            server.run()


@command("optimade")
def optimade(
    host: Host = LOOPBACK,
    port: Port = 5000,
    launchpad: Launchpad = LAUNCHPAD_DEFAULT,
    url: Annotated[str | None, typer.Option(help="Address of a proxy before it.")] = None,
    logs: Annotated[Path, path_option("Where its log goes.")] = Path("gan_htvs_data/optimade"),
) -> None:
    """Serve candidates by the OPTIMADE standard, which clients of all large databases speak.

    Entries are brought up to date when it starts; after that it only reads. Properties beyond the
    standard carry the prefix _ganhtvs_.
    """
    with needing("optimade"):
        import uvicorn

        from launchers.results.optimade_server import build_entries, create_app
    from launchers.launchpad.database import open_databases

    with open_databases(launchpad) as databases:
        address = checked_address(host, port)
        with console.WorkProgress() as progress:
            n_entries, refused = build_entries(databases, progress)
        for name, reason in refused.items():
            console.note(f"candidate {name} is not served: {reason}")
        page = create_app(databases, url, logs)
        typer.echo(f"{address.url}/v1 serves {counted(n_entries, 'structure')}; Ctrl-C ends it")
        with suppress(KeyboardInterrupt):
            uvicorn.run(page, host=host, port=port, log_level="critical", server_header=False)


archive = typer.Typer(help="Write campaigns as files, and read them back.", no_args_is_help=True)
app.add_typer(archive, name="archive")

ArchiveFile = Annotated[Path, path_argument("The archive.", "FILE")]


@command("archive write mg-mn-o-demo --output demo.zip", of=archive)
def write(
    campaign: CampaignName = None,
    output: OutputFile = Path("campaign.zip"),
    launchpad: Launchpad = LAUNCHPAD_DEFAULT,
) -> None:
    """Write a campaign as one file: settings, outputs, checkpoints, stability, candidates.

    With checksums and the versions of what made it. Jobs that are queued are not in it.
    """
    from launchers.launchpad.database import open_databases
    from launchers.results.archive import write_archive

    with open_databases(launchpad) as databases, console.WorkProgress() as progress:
        manifest = write_archive(databases, campaign, output, progress)
    n_documents = sum(member.n_documents for member in manifest.members.values())
    typer.echo(f"wrote {output}: {manifest.campaign}, {counted(n_documents, 'document')}")


@command("archive read demo.zip", of=archive)
def read(file: ArchiveFile, launchpad: Launchpad = LAUNCHPAD_DEFAULT) -> None:
    """Put a campaign from an archive into the database, as it was; what is there already stays."""
    from launchers.launchpad.database import open_databases
    from launchers.results.archive import read_archive

    with open_databases(launchpad) as databases, console.WorkProgress() as progress:
        manifest, n_new = read_archive(databases, file, progress)
    typer.echo(f"{manifest.campaign}: {counted(n_new, 'new document')}")
    typer.echo(f"Next: gan-htvs candidates --campaign {manifest.campaign}")


@command("archive check demo.zip", of=archive)
def check(file: ArchiveFile) -> None:
    """Make sure that an archive is whole, and tell what is in it."""
    from launchers.results.archive import check_archive

    manifest = check_archive(file)
    typer.echo(f"{file}: {manifest.campaign}, written {manifest.written_at:%Y-%m-%d %H:%M} UTC")
    for name, member in manifest.members.items():
        typer.echo(f"  {name}: {counted(member.n_documents, 'document')}")
