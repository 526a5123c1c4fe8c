"""Commands that share results with browsers, other programs and other databases."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from gan_htvs.core.errors import UserError
from launchers.cli import common as cli
from launchers.console import output as console
from launchers.console.quantities import counted
from launchers.results.serving import LOOPBACK, checked_address

Host = Annotated[
    str,
    typer.Option(help="Address to listen on; the default accepts only this machine."),
]
Port = Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")]


@contextmanager
def requiring(extra: str) -> Iterator[None]:
    """Report a failed import as a missing extra of this package.

    Raises
    ------
    UserError
        If a module is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is not installed; run pip install 'gan-htvs[{extra}]'."
        ) from error


@cli.command("explore", "explore --port 8051 --launchpad another.yaml")
def explore(
    host: Host = LOOPBACK,
    port: Port = 8050,
    launchpad: cli.Launchpad = cli.LAUNCHPAD_DEFAULT,
) -> None:
    """Serve a web page to search and view candidates and to monitor campaigns, until Ctrl-C.

    The page only reads the database and needs no internet connection.
    """
    with requiring("explore"):
        import waitress

        from launchers.results.explorer.app import create_app

    with cli.open_databases(launchpad) as databases:
        address = checked_address(host, port)
        page = create_app(databases, address.names)
        server = waitress.create_server(page.server, host=host, port=port, threads=8, ident=None)
        # Waitress warns about requests that wait for a thread, and that are open at the end.
        logging.getLogger("waitress").setLevel(logging.ERROR)
        typer.echo(f"Serving {databases.settings.name} at {address.url} until Ctrl-C")
        with suppress(KeyboardInterrupt):
            server.run()


@cli.command("optimade")
def optimade(
    host: Host = LOOPBACK,
    port: Port = 5000,
    launchpad: cli.Launchpad = cli.LAUNCHPAD_DEFAULT,
    url: Annotated[
        str | None, typer.Option(help="Public address of a server behind a reverse proxy.")
    ] = None,
    logs: Annotated[Path, cli.path_option("Folder of the log.")] = Path("gan_htvs_data/optimade"),
) -> None:
    """Serve candidates through the OPTIMADE API until Ctrl-C.

    Entries are updated once, at the start. Properties outside the standard have the prefix
    _ganhtvs_.
    """
    with requiring("optimade"):
        import uvicorn

        from launchers.results.optimade_server import build_entries, create_app

    with cli.open_databases(launchpad) as databases:
        address = checked_address(host, port)
        with console.WorkProgress() as progress:
            n_entries, refused = build_entries(databases, progress)
        for name, reason in refused.items():
            console.note(f"candidate {name} is not served: {reason}")
        page = create_app(databases, url, logs)
        typer.echo(f"Serving {counted(n_entries, 'structure')} at {address.url}/v1 until Ctrl-C")
        with suppress(KeyboardInterrupt):
            uvicorn.run(page, host=host, port=port, log_level="critical", server_header=False)


archive = typer.Typer(help="Write, read and check archives of campaigns.", no_args_is_help=True)
cli.app.add_typer(archive, name="archive")

ArchiveFile = Annotated[Path, cli.path_argument("The archive.", "FILE")]


@cli.command("archive write mg-mn-o-demo --output demo.zip", of=archive)
def write(
    campaign: cli.CampaignName = None,
    output: cli.OutputFile = Path("campaign.zip"),
    launchpad: cli.Launchpad = cli.LAUNCHPAD_DEFAULT,
) -> None:
    """Write a campaign to one file: settings, outputs, checkpoints, stability, candidates.

    The archive also has checksums and the versions of the software. Queued jobs are not included.
    """
    from launchers.results.archive import write_archive

    with cli.open_databases(launchpad) as databases, console.WorkProgress() as progress:
        manifest = write_archive(databases, campaign, output, progress)
    n_documents = sum(member.n_documents for member in manifest.members.values())
    typer.echo(f"wrote {output}: {manifest.campaign}, {counted(n_documents, 'document')}")


@cli.command("archive read demo.zip", of=archive)
def read(file: ArchiveFile, launchpad: cli.Launchpad = cli.LAUNCHPAD_DEFAULT) -> None:
    """Read a campaign from an archive into the database; existing documents are not changed."""
    from launchers.results.archive import read_archive

    with cli.open_databases(launchpad) as databases, console.WorkProgress() as progress:
        manifest, n_new = read_archive(databases, file, progress)
    typer.echo(f"{manifest.campaign}: {counted(n_new, 'new document')}")
    typer.echo(f"Next: gan-htvs candidates --campaign {manifest.campaign}")


@cli.command("archive check demo.zip", of=archive)
def check(file: ArchiveFile) -> None:
    """Check the checksums of an archive and list its contents."""
    from launchers.results.archive import check_archive

    manifest = check_archive(file)
    typer.echo(f"{file}: {manifest.campaign}, written {manifest.written_at:%Y-%m-%d %H:%M} UTC")
    for name, member in manifest.members.items():
        typer.echo(f"  {name}: {counted(member.n_documents, 'document')}")
