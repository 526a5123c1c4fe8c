"""The ``gan-htvs`` command line."""

from __future__ import annotations

import errno
import sys
from typing import Annotated

import typer

from gan_htvs import __version__
from launchers.cli import campaigns, fireworks, generators, queues, results, sharing
from launchers.cli import monitoring as monitor
from launchers.cli.common import EXIT_INTERRUPTED, app
from launchers.launchpad.foreign_settings import set_aside_jobflow_settings

MODULES = (campaigns, monitor, results, sharing, generators, queues, fireworks)
"""Importing them has added their commands to ``app``."""


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Print the version and stop, if asked."""
    if version:
        typer.echo(f"gan-htvs {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; a Ctrl-C that comes before or after the work is one, too."""
    set_aside_jobflow_settings()
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        sys.exit("gan-htvs: No space is left where this writes; make some, and do it again.")


if __name__ == "__main__":
    main()
