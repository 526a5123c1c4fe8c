"""The ``gan-htvs`` command line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from gan_htvs import __version__
from gan_htvs.errors import UserError
from launchers import console
from launchers.options import SeveralValues

app = typer.Typer(
    name="gan-htvs",
    help="Discover crystals: a GAN proposes, a funnel of physics decides, MongoDB remembers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

EXIT_JOBS_FAILED = 1
EXIT_CHECK_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

Launchpad = Annotated[
    Path,
    typer.Option("--launchpad", "-l", help="The file that names the database.", metavar="FILE"),
]
Workdir = Annotated[
    Path,
    typer.Option("--workdir", "-w", help="Where job directories and logs go.", metavar="DIR"),
]
Workers = Annotated[
    int,
    typer.Option("--workers", "-j", min=1, help="Worker processes; default: one per core."),
]
CAMPAIGN_DEFAULT = Path("campaign.yaml")
LAUNCHPAD_DEFAULT = Path("my_launchpad.yaml")
N_CORES = len(os.sched_getaffinity(0))
WORKDIR_DEFAULT = Path("gan_htvs_data/runs")


class Format(StrEnum):
    """How a table is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class ReportFormat(StrEnum):
    """How a report is printed."""

    TABLE = "table"
    JSON = "json"


@contextmanager
def _told_in_one_sentence() -> Iterator[None]:
    """Turn what the user can cure into one sentence and an exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's Ctrl-C
    try:
        yield
    except UserError as error:
        console.error(str(error))
        raise typer.Exit(EXIT_USER_ERROR) from error
    except KeyboardInterrupt as interrupt:
        console.error("Stopped. What is finished is stored; the same command goes on from here.")
        raise typer.Exit(EXIT_INTERRUPTED) from interrupt


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Print the version and stop, if asked."""
    if version:
        typer.echo(f"gan-htvs {__version__}")
        raise typer.Exit


@app.command(epilog="Example: [bold]gan-htvs demo[/bold]")
def demo(
    launchpad: Launchpad = LAUNCHPAD_DEFAULT,
    workdir: Workdir = WORKDIR_DEFAULT,
    workers: Workers = N_CORES,
) -> None:
    """Run the demonstration campaign: 3 compositions x 5 structures, to a computed band gap.

    Needs no GPU, VASP, MongoDB or API key. Where my_launchpad.yaml is missing it is written,
    for the embedded database.
    """
    with _told_in_one_sentence():
        if not launchpad.exists():
            _write_template("my_launchpad.yaml", launchpad)
        template = resources.files("launchers.templates") / "demo.yaml"
        with resources.as_file(template) as campaign_file:
            _run(campaign_file, launchpad, workdir, workers)


@app.command(epilog="Example: [bold]gan-htvs run campaign.yaml --workers 8[/bold]")
def run(
    campaign_file: Annotated[Path, typer.Argument(metavar="CAMPAIGN.YAML")],
    launchpad: Launchpad = LAUNCHPAD_DEFAULT,
    workdir: Workdir = WORKDIR_DEFAULT,
    workers: Workers = N_CORES,
) -> None:
    """Run a campaign on this machine, or go on where an earlier run stopped."""
    with _told_in_one_sentence():
        _run(campaign_file, launchpad, workdir, workers)


@app.command(
    epilog="Example: [bold]gan-htvs dataset campaign.yaml --output relaxed.npz[/bold]; then "
    "[bold]dataset: {source: array, path: relaxed.npz}[/bold]"
)
def dataset(
    campaign_file: Annotated[Path, typer.Argument(metavar="CAMPAIGN.YAML")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The .npz file to write.", metavar="FILE")
    ],
    workdir: Workdir = WORKDIR_DEFAULT,
    workers: Workers = N_CORES,
) -> None:
    """Relax the structures of the campaign's dataset and keep those near the hull, each once.

    Compositions that lack structures get random symmetric crystals. Every relaxation is
    remembered in the working directory: the same command goes on where an earlier one stopped.
    """
    with _told_in_one_sentence():
        from gan_htvs.campaign_file import read_campaign

        campaign = read_campaign(campaign_file)
        from gan_htvs.dataset.relaxed import relax_dataset
        from gan_htvs.relaxation import Relaxations

        relaxations = Relaxations.of(campaign, workdir, n_processes=workers)
        with console.WorkProgress() as progress:
            relaxed = relax_dataset(campaign, relaxations, on_progress=progress)
        relaxed.save(output, campaign)
        console.print_dataset(relaxed, output)


@app.command(
    cls=SeveralValues,
    epilog="Example: [bold]gan-htvs evaluate model.safetensors --campaign campaign.yaml --against "
    "random symmetric substitution[/bold]",
)
def evaluate(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="A trained generator (.safetensors), or: shipped.", metavar="CHECKPOINT"
        ),
    ],
    campaign: Annotated[
        Path, typer.Option("--campaign", "-c", help="What it was trained for.", metavar="FILE")
    ] = CAMPAIGN_DEFAULT,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="Baselines beside it: random, symmetric, substitution.", metavar="NAME ..."
        ),
    ] = None,
    compositions: Annotated[
        list[str] | None,
        typer.Option(help="Cell formulas; default: those of the campaign.", metavar="FORMULA ..."),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Unique, valid structures of each composition.")
    ] = 100,
    relax: Annotated[
        int, typer.Option(min=0, help="How many of these are relaxed; 0: no energies.")
    ] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Decides all samples.")] = 0,
    workers: Workers = N_CORES,
    workdir: Workdir = WORKDIR_DEFAULT,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where the report goes; default: a folder of the working directory.",
            metavar="DIR",
        ),
    ] = None,
    form: Annotated[ReportFormat, typer.Option("--format", help="How to print it.")] = (
        ReportFormat.TABLE
    ),
) -> None:
    """Judge a trained generator by its samples, before and after relaxation.

    Composition match, validity, uniqueness, novelty, structures held out of training found
    again, and what is stable after relaxation with the energy engine of the campaign, beside the
    published shares and the baselines named by --against. Writes evaluation.json, samples.csv and
    evaluation.png. Relaxations are remembered in the working directory: the same command goes on
    where an earlier one stopped, and gives the same numbers.
    """
    with _told_in_one_sentence():
        from launchers.evaluation import evaluate_checkpoint, print_report

        shown = console.err if form is ReportFormat.JSON else console.out
        with console.WorkProgress(shown) as progress:
            report = evaluate_checkpoint(
                checkpoint,
                campaign,
                against=against or (),
                compositions=compositions or (),
                n_samples=samples,
                n_relaxed=relax,
                seed=seed,
                n_workers=workers,
                workdir=workdir,
                on_progress=progress,
            )
        from gan_htvs.evaluation.report import write_report

        folder = output or workdir / report.campaign / f"evaluation-{report.checkpoint[:12]}"
        files = write_report(report, folder)
        if form is ReportFormat.JSON:
            typer.echo(report.model_dump_json(indent=1))
        else:
            print_report(report, files)


@app.command(epilog="Example: [bold]gan-htvs train campaign.yaml --output model[/bold]")
def train(
    campaign_file: Annotated[Path, typer.Argument(metavar="CAMPAIGN.YAML")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where everything goes.", metavar="DIR")
    ],
    half: Annotated[
        bool, typer.Option("--half", help="Write float16 weights: half the size.")
    ] = False,
) -> None:
    """Train the campaign's generator here, without running the campaign.

    Writes the checkpoint, named by its content, and the learning curves (CSV, PNG, TensorBoard).
    Stopped by Ctrl-C, SIGTERM or SIGUSR1, it goes on with the same command from where it was.
    """
    with _told_in_one_sentence():
        signal.signal(signal.SIGUSR1, signal.default_int_handler)  # sbatch --signal=USR1@120
        from gan_htvs.campaign_file import read_campaign

        campaign = read_campaign(campaign_file)
        from launchers.training import train_campaign

        checkpoint = train_campaign(campaign, output, half=half)
        typer.echo(f"wrote {checkpoint}")


@app.command(epilog="Example: [bold]gan-htvs build[/bold]")
def build(
    launchpad: Launchpad = LAUNCHPAD_DEFAULT,
    workers: Annotated[int, typer.Option("--workers", "-j", min=1, help="Processes.")] = 1,
) -> None:
    """Bring stability and candidates up to date with all finished jobs.

    Only what new jobs change is written, and jobs may go on arriving meanwhile.
    """
    with _told_in_one_sentence():
        from launchers.builders import build_candidates
        from launchers.database import open_databases

        with open_databases(launchpad) as databases, console.WorkProgress() as progress:
            changed = build_candidates(databases, n_workers=workers, on_progress=progress)
        typer.echo(f"{changed} candidates written" if changed else "Everything is up to date.")


@app.command(epilog="Example: [bold]gan-htvs funnel mg-mn-o-demo --output figures[/bold]")
def funnel(
    campaign: Annotated[
        str | None, typer.Argument(help="Name of a campaign; needless if there is one.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Draw figures here.", metavar="DIR")
    ] = None,
    launchpad: Launchpad = LAUNCHPAD_DEFAULT,
) -> None:
    """Print how many candidates pass each stage, beside the published study; draw figures.

    With --output: funnel.png, hull.png (candidates on the hull of the known phases), pourbaix.png
    (stability against pH) and gaps.png (gap against Pourbaix stability, with the target window).
    """
    with _told_in_one_sentence():
        from launchers.database import open_databases
        from launchers.report import draw_figures, read_results

        with open_databases(launchpad) as databases:
            results = read_results(databases, campaign)
        console.print_funnel(results.campaign, results.funnel)
        if output is not None:
            for path in draw_figures(results, output):
                typer.echo(f"wrote {path}")


@app.command(
    epilog="Examples: [bold]gan-htvs candidates --stage pourbaix_stable[/bold], "
    "[bold]gan-htvs candidates --format csv > candidates.csv[/bold]"
)
def candidates(
    launchpad: Launchpad = LAUNCHPAD_DEFAULT,
    campaign: Annotated[str | None, typer.Option(help="Only this campaign.")] = None,
    stage: Annotated[str | None, typer.Option(help="Only this stage of the funnel.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0: all.")] = 0,
    output: Annotated[Format, typer.Option("--format", help="How to write them.")] = Format.TABLE,
) -> None:
    """List candidates, most stable first."""
    with _told_in_one_sentence():
        from gan_htvs.candidate import Stage
        from gan_htvs.store import CandidateStore
        from launchers.database import open_databases

        if stage is not None and stage not in list(Stage):
            raise UserError(f"--stage: {stage!r} is none of {', '.join(Stage)}.")
        with open_databases(launchpad) as databases:
            store = CandidateStore(databases.store("candidates", key="candidate_id"))
            rows = store.rows(campaign=campaign, stage=Stage(stage) if stage else None, limit=limit)
        if output is Format.JSON:
            console.write_json(rows)
        elif output is Format.CSV:
            console.write_csv(rows)
        else:
            console.print_candidates(rows)


@app.command(epilog="Example: [bold]gan-htvs init my-search[/bold]")
def init(
    directory: Annotated[Path, typer.Argument(help="Created if missing.")] = Path(),
) -> None:
    """Write a campaign.yaml and a my_launchpad.yaml to start from."""
    with _told_in_one_sentence():
        for template, name in (
            ("demo.yaml", "campaign.yaml"),
            ("my_launchpad.yaml", "my_launchpad.yaml"),
        ):
            target = directory / name
            if target.exists():
                raise UserError(f"{target}: exists already and is left as it is.")
            _write_template(template, target)


@app.command(epilog="Example: [bold]gan-htvs settings | grep thresholds[/bold]")
def settings() -> None:
    """Print every setting of campaign.yaml with its default and meaning, as Markdown."""
    from gan_htvs.campaign import Campaign
    from launchers.handbook import as_markdown, settings_of

    typer.echo(as_markdown(settings_of(Campaign)))


@app.command(
    epilog="Examples: [bold]gan-htvs doctor[/bold], [bold]gan-htvs doctor campaign.yaml[/bold]"
)
def doctor(
    campaign_file: Annotated[
        Path | None,
        typer.Argument(help="Ask for what it needs; default: for all.", metavar="[CAMPAIGN.YAML]"),
    ] = None,
    launchpad: Launchpad = LAUNCHPAD_DEFAULT,
    workdir: Workdir = WORKDIR_DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="Write a JSON array.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="A warning is a failure.")] = False,
) -> None:
    """Examine this machine and the databases, and name the cure of whatever is wrong.

    Ends with exit code 0, or 1 after a failure (or a warning, with --strict).
    """
    with _told_in_one_sentence():
        from launchers.doctor import table
        from launchers.doctor.check import has_failed
        from launchers.doctor.diagnosis import diagnose

        with table.watching() as watch:
            checks = diagnose(campaign_file, launchpad, workdir, watch=watch)
        if as_json:
            typer.echo(table.as_json(checks))
        else:
            table.print_table(checks)
    if has_failed(checks, strict=strict):
        raise typer.Exit(EXIT_CHECK_FAILED)


def _run(campaign_file: Path, launchpad: Path, workdir: Path, workers: int) -> None:
    # Imported here so that --help and errors in the files need not wait for torch.
    from gan_htvs.campaign_file import read_campaign

    campaign = read_campaign(campaign_file)
    from launchers.database import LaunchpadFile, open_databases

    LaunchpadFile.read(launchpad)
    from launchers.local import LocalRun

    console.print_heading(campaign)
    with open_databases(launchpad) as databases, console.progress() as progress:
        LocalRun(
            campaign,
            databases,
            launchpad_file=launchpad,
            directory=workdir / campaign.name,
            n_workers=workers,
            watch=progress.show,
            tell=console.note,
        ).run()
        progress.close()
        failed = console.print_summary(campaign, databases, launchpad)
    if failed:
        raise typer.Exit(EXIT_JOBS_FAILED)


def _write_template(template: str, target: Path) -> None:
    text = (resources.files("launchers.templates") / template).read_text(encoding="utf-8")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror}.") from error
    typer.echo(f"wrote {target}")


def main() -> None:
    """Run the command line; a Ctrl-C that comes before or after the work is one, too."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
