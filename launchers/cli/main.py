"""The ``gan-htvs`` command line."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gan_htvs import __version__
from launchers.cli import campaigns, fireworks, generators, queues, references, results, sharing
from launchers.cli import monitoring as monitor
from launchers.cli.common import EXIT_INTERRUPTED, app
from launchers.launchpad.foreign_settings import set_aside_jobflow_settings

MODULES = (campaigns, references, monitor, results, sharing, generators, queues, fireworks)
"""Modules whose import adds commands to ``app``."""


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Print the version if --version is given."""
    if version:
        typer.echo(f"gan-htvs {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; handle a Ctrl-C before or after the command, too."""
    set_aside_jobflow_settings()
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
