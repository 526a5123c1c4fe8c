"""Commands about generators and what they learn from."""

from __future__ import annotations

import signal
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gan_htvs.core.errors import UserError
from gan_htvs.core.files import require_writable
from launchers.cli.common import (
    N_CORES,
    WORKDIR_DEFAULT,
    CampaignFile,
    Compositions,
    OutputFile,
    Workdir,
    Workers,
    command,
    path_argument,
    path_option,
)
from launchers.cli.options import SeveralValues
from launchers.console import output as console


class ReportFormat(StrEnum):
    """How a report is printed."""

    TABLE = "table"
    JSON = "json"


@command("dataset campaign.yaml --output relaxed.npz")
def dataset(
    campaign_file: CampaignFile,
    output: OutputFile,
    workdir: Workdir = WORKDIR_DEFAULT,
    workers: Workers = N_CORES,
) -> None:
    """Relax the structures of the campaign's dataset and keep those near the hull, each once.

    Compositions that lack structures get random symmetric crystals. Every relaxation is
    remembered in the working directory: the same command goes on where an earlier one stopped.
    """
    from gan_htvs.campaign.campaign_file import read_campaign

    if output.is_dir() or output.suffix != ".npz":
        kind = "a folder" if output.is_dir() else "no .npz file"
        raise UserError(f"--output {output}: is {kind}; name the .npz file to write.")
    require_writable(output.parent, "--output")
    campaign = read_campaign(campaign_file)
    from gan_htvs.dataset.relaxed import relax_dataset
    from gan_htvs.potentials.relaxation import Relaxations

    relaxations = Relaxations.of(campaign, workdir, n_processes=workers)
    with console.WorkProgress() as progress:
        relaxed = relax_dataset(campaign, relaxations, on_progress=progress)
    relaxed.save(output, campaign)
    console.print_dataset(relaxed, output)


@command("train campaign.yaml --output model")
def train(
    campaign_file: CampaignFile,
    output: Annotated[Path, path_option("Where everything goes.", "--output", "-o")],
    half: Annotated[bool, typer.Option("--half", help="Write float16 weights.")] = False,
) -> None:
    """Train the campaign's generator here, without running the campaign.

    Writes the checkpoint, named by its content, and the learning curves (CSV, PNG, TensorBoard).
    Stopped by Ctrl-C, SIGTERM or SIGUSR1, it goes on with the same command from where it was.
    """
    signal.signal(signal.SIGUSR1, signal.default_int_handler)  # sbatch --signal=USR1@120
    from gan_htvs.campaign.campaign_file import read_campaign

    campaign = read_campaign(campaign_file)
    from launchers.local.generator_training import train_campaign

    checkpoint = train_campaign(campaign, output, half=half)
    typer.echo(f"wrote {checkpoint}")


@command(
    "evaluate model.safetensors --campaign campaign.yaml --against random symmetric substitution",
    cls=SeveralValues,
)
def evaluate(
    checkpoint: Annotated[Path, path_argument("A .safetensors file, or: shipped.", "CHECKPOINT")],
    campaign: Annotated[
        Path, path_option("What it was trained for.", "--campaign", "-c", metavar="FILE")
    ] = Path("campaign.yaml"),
    against: Annotated[
        list[str] | None,
        typer.Option(help="Baselines: random, symmetric, substitution.", metavar="NAME ..."),
    ] = None,
    compositions: Compositions = None,
    samples: Annotated[int, typer.Option(min=1, help="Structures of each composition.")] = 100,
    relax: Annotated[int, typer.Option(min=0, help="Number to relax; 0: no energies.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Decides all samples.")] = 0,
    workers: Workers = N_CORES,
    workdir: Workdir = WORKDIR_DEFAULT,
    output: Annotated[
        Path | None,
        path_option("Where the report goes; default: a folder in --workdir.", "--output", "-o"),
    ] = None,
    form: Annotated[ReportFormat, typer.Option("--format", help="How to print it.")] = (
        ReportFormat.TABLE
    ),
) -> None:
    """Judge a trained generator by its samples, before and after relaxation.

    Composition match, validity, uniqueness, novelty, structures held out of training found
    again, and what is stable after relaxation with the potential of the campaign, beside the
    published shares and the baselines named by --against. Writes evaluation.json, samples.csv and
    evaluation.png. Relaxations are remembered in the working directory: the same command goes on
    where an earlier one stopped, and gives the same numbers.
    """
    if output is not None:
        require_writable(output, "--output")
    if output is None or relax != 0:
        require_writable(workdir, "--workdir")
    if relax > samples:
        console.note(
            f"--samples {samples} leaves no more than {samples} structures of each composition "
            f"to relax, not {relax} (--relax)."
        )
    from launchers.local.proposer_evaluation import (
        evaluate_checkpoint,
        note_shortfalls,
        print_report,
    )

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
    from gan_htvs.evaluation.evaluation_report import write_report

    files = write_report(report, output or workdir / report.campaign / report.folder)
    note_shortfalls(report)
    if form is ReportFormat.JSON:
        typer.echo(report.model_dump_json(indent=1))
    else:
        print_report(report, files)
