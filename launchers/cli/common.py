"""The application, the options that commands share, and their exit codes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from gan_htvs.core.errors import UserError
from gan_htvs.core.files import explain_os_error, write_atomically
from launchers.cli.options import Words, several
from launchers.console import output as console

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from gan_htvs.campaign.compositions import CompositionSettings
    from gan_htvs.campaign.model import Campaign
    from launchers.launchpad.database import Databases
    from launchers.monitor.findings import Finding

Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_FAILURE = 1
"""A job or a check failed, or a campaign makes no progress."""
EXIT_USER_ERROR = 2
"""Wrong input, which the user can correct."""
EXIT_INTERRUPTED = 130
"""Interrupted by Ctrl-C or SIGTERM."""


class Commands(TyperGroup):
    """Command group that reports errors of users and of the system as a sentence and exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; SIGTERM, as sent by batch systems, interrupts it like Ctrl-C."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except UserError as error:
            console.error(str(error))
            raise typer.Exit(EXIT_USER_ERROR) from error
        except OSError as error:
            # A closed pipe is handled by click.
            if (sentence := explain_os_error(error)) is None:
                raise
            console.error(sentence)
            raise typer.Exit(EXIT_USER_ERROR) from error
        except (KeyboardInterrupt, RuntimeError) as interrupt:
            # During an import, Python raises a RuntimeError with the interrupt as its cause.
            if KeyboardInterrupt not in {type(interrupt), type(interrupt.__cause__)}:
                raise
            console.error("Stopped. Finished work is stored; run the same command to resume.")
            raise typer.Exit(EXIT_INTERRUPTED) from interrupt


app = typer.Typer(
    name="gan-htvs",
    cls=Commands,
    context_settings={"help_option_names": ["--help", "-h"]},
    help="Discover crystals: propose structures with a GAN, screen them by stability and band gap, "
    "and store the candidates in MongoDB.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def command(*examples: str, of: typer.Typer = app, **options: Any) -> Callable[[Command], Command]:
    """Return a decorator that adds a command to the application, with examples."""
    commands = "; ".join(f"[bold]gan-htvs {example}[/bold]" for example in examples)
    label = "Example" if len(examples) == 1 else "Examples"
    return of.command(epilog=f"{label}: {commands}", **options)


def named_path(text: str | Path) -> Path:
    """Parse a path from the command line, but not the empty text of an unset shell variable.

    Raises
    ------
    typer.BadParameter
        If the text is empty, which ``Path`` would read as the current folder.
    """
    if text == "":
        raise typer.BadParameter("is empty; name a file or folder.")
    return Path(text)


def path_option(help_text: str, *names: str, metavar: str = "DIR") -> Any:
    """Return an option whose value is a non-empty path."""
    return typer.Option(*names, help=help_text, metavar=metavar, parser=named_path)


def path_argument(help_text: str, metavar: str = "DIR") -> Any:
    """Return an argument whose value is a non-empty path."""
    return typer.Argument(help=help_text, metavar=metavar, parser=named_path)


CampaignName = Annotated[
    str | None,
    typer.Argument(help="Name of a campaign; optional if the database has only one."),
]
OneOrAllCampaigns = Annotated[str | None, typer.Argument(help="Name of a campaign; default: all.")]
CampaignFile = Annotated[
    Path, typer.Argument(metavar="CAMPAIGN.YAML", help="Campaign file; see `gan-htvs init`.")
]
Launchpad = Annotated[
    Path,
    path_option("Launchpad file, which names the database.", "--launchpad", "-l", metavar="FILE"),
]
Workdir = Annotated[Path, path_option("Folder for job directories and logs.", "--workdir", "-w")]
Workers = Annotated[
    int,
    typer.Option("--workers", "-j", min=1, help="Worker processes; default: one per core."),
]
OutputFile = Annotated[Path, path_option("The file to write.", "--output", "-o", metavar="FILE")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and change nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Strict = Annotated[bool, typer.Option("--strict", help="Treat warnings as failures.")]
Compositions = Annotated[
    Words,
    several(
        "Formulas: a reduced one (MgMn2O4) means all cells within the caps, another one "
        "(Mg2Mn4O8) this cell; default: compositions of the campaign.",
        "FORMULA",
    ),
]
AtomsPerCell = Annotated[
    list[int] | None,
    typer.Option(
        min=1,
        metavar="N ...",
        help="Only cells with these numbers of atoms, multiples of the number in each formula of "
        "--compositions.",
    ),
]
LAUNCHPAD_DEFAULT = Path("my_launchpad.yaml")
N_CORES = len(os.sched_getaffinity(0))
WORKDIR_DEFAULT = Path("gan_htvs_data/runs")


def open_databases(launchpad: Path) -> AbstractContextManager[Databases]:
    """Open the databases of a launchpad file; imported here because --help must not wait."""
    from launchers.launchpad import database

    return database.open_databases(launchpad)


def read_campaign(campaign_file: Path) -> Campaign:
    """Read a campaign file; imported here because --help must not wait.

    Shows the progress if reference phases are fetched.
    """
    from gan_htvs.campaign import campaign_file as files

    with console.WorkProgress(console.err) as progress:
        on_progress = partial(progress, "queries for reference phases")
        return files.read_campaign(campaign_file, on_progress)


def chosen_compositions(
    formulas: Sequence[str] | None, atoms_per_cell: Sequence[int] | None
) -> list[CompositionSettings]:
    """Return the compositions of ``--compositions`` and ``--atoms-per-cell``.

    Raises
    ------
    UserError
        If numbers of atoms have no formula.
    """
    from gan_htvs.campaign import compositions

    if atoms_per_cell and not formulas:
        raise UserError("--atoms-per-cell: add the formulas, such as --compositions MgMn2O4.")
    sizes = tuple(atoms_per_cell or ())
    return [
        compositions.CompositionSettings(formula=formula, atoms_per_cell=sizes)
        for formula in formulas or ()
    ]


def conclude(findings: Sequence[Finding], *, as_json: bool, strict: bool) -> None:
    """Print findings and exit with an error if one is a failure, or with ``strict`` a warning."""
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        console.print_findings(findings)
    bad = ("failure", "warning") if strict else ("failure",)
    if any(finding.severity in bad for finding in findings):
        raise typer.Exit(EXIT_FAILURE)


def write_template(template: str, target: Path) -> None:
    """Write a template file to a path."""
    text = (resources.files("launchers.cli") / "templates" / template).read_text(encoding="utf-8")
    write_text(text, target)


def write_text(text: str, target: Path) -> None:
    """Write text to a file and print its path."""
    write_atomically(target, text.encode())
    typer.echo(f"wrote {target}")
