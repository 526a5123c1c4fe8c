"""FireWorks' own commands on the databases of a launchpad file."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

import typer

from gan_htvs.core.errors import UserError
from launchers.cli.common import LAUNCHPAD_DEFAULT, Launchpad, command, open_databases
from launchers.console import output as console

PASSED_THROUGH: dict[str, Any] = {
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True},
    "add_help_option": False,
}
"""Options of commands whose arguments, including ``--help``, are parsed by FireWorks."""

CHECK_SECONDS = 5.0
"""Interval of the checks that the embedded server is running."""


@command("lpad get_wflows -d count", **PASSED_THROUGH)
def lpad(context: typer.Context) -> None:
    """Run FireWorks' lpad with its own arguments: query and change queued jobs."""
    from launchers.queue import scripts

    scripts.lpad(context.args)


@command("qlaunch -c queue/cpu rapidfire -m 10", **PASSED_THROUGH)
def qlaunch(context: typer.Context) -> None:
    """Run FireWorks' qlaunch with its own arguments: submit batch jobs that start workers."""
    from launchers.queue import scripts

    scripts.qlaunch(context.args)


@command("rlaunch -w queue/cpu/my_fworker.yaml multi 16", **PASSED_THROUGH)
def rlaunch(context: typer.Context) -> None:
    """Run FireWorks' rlaunch with its own arguments: run queued jobs on this machine.

    If a worker is stopped during a job, `gan-htvs recover` queues the job again.
    """
    if _has_several_workers(context.args):
        # Set before libraries count the cores: torch on oversubscribed cores is ten times slower.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    from launchers.queue import scripts

    scripts.rlaunch(context.args, console.note)


@command("database")
def database(launchpad: Launchpad = LAUNCHPAD_DEFAULT) -> None:
    """Keep the embedded database running until Ctrl-C, for programs that cannot start it."""
    with open_databases(launchpad) as databases:
        settings = databases.settings
        if settings.embedded_storage is None:
            raise UserError(
                f"{launchpad}: names a MongoDB at {settings.address}, which is already running; "
                "this command is only for embedded databases."
            )
        typer.echo(f"Serving {settings.address} until Ctrl-C; data: {settings.embedded_storage}")
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(CHECK_SECONDS)
                databases.check()


def _has_several_workers(arguments: list[str]) -> bool:
    """Return whether arguments of ``rlaunch`` start more than one process."""
    return "multi" in arguments and arguments[arguments.index("multi") + 1 :][:1] != ["1"]
