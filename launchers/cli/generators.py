"""Commands for training sets and generators."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Literal

import typer

from gan_htvs.core.errors import UserError
from gan_htvs.core.files import require_writable
from launchers.cli import common as cli
from launchers.cli.options import SeveralValues, Words, several
from launchers.console import output as console


@cli.command("dataset campaign.yaml --output relaxed.npz")
def dataset(
    campaign_file: cli.CampaignFile,
    output: cli.OutputFile,
    workdir: cli.Workdir = cli.WORKDIR_DEFAULT,
    workers: cli.Workers = cli.N_CORES,
) -> None:
    """Relax the training structures of a campaign and save the unique ones near the hull.

    Random symmetric crystals are added to compositions with too few structures. Finished
    relaxations are stored in the working directory; run the same command to resume.
    """
    if output.is_dir() or output.suffix != ".npz":
        kind = "a folder" if output.is_dir() else "not an .npz file"
        raise UserError(f"--output {output}: is {kind}; name the .npz file to write.")
    require_writable(output.parent, "--output")
    campaign = cli.read_campaign(campaign_file)
    from gan_htvs.dataset.relaxed import relax_dataset
    from gan_htvs.potentials.relaxation import Relaxations

    relaxations = Relaxations.of(campaign, workdir, n_processes=workers)
    with console.WorkProgress() as progress:
        relaxed = relax_dataset(campaign, relaxations, on_progress=progress)
    relaxed.save(output, campaign)
    console.print_dataset(relaxed, output)


@cli.command("train campaign.yaml --output model")
def train(
    campaign_file: cli.CampaignFile,
    output: Annotated[Path, cli.path_option("Folder of all output files.", "--output", "-o")],
    half: Annotated[bool, typer.Option("--half", help="Save float16 weights.")] = False,
) -> None:
    """Train the generator of a campaign on this machine, without running the campaign.

    Writes the checkpoint, with a hash of its content in the name, and the learning curves (CSV,
    PNG, TensorBoard). After Ctrl-C, SIGTERM or SIGUSR1, run the same command to resume.
    """
    signal.signal(signal.SIGUSR1, signal.default_int_handler)  # sbatch --signal=USR1@120
    campaign = cli.read_campaign(campaign_file)
    from launchers.local.generator_training import train_campaign

    checkpoint = train_campaign(campaign, output, half=half)
    typer.echo(f"wrote {checkpoint}")


@cli.command(
    "evaluate model.safetensors --campaign campaign.yaml --against random symmetric substitution",
    "evaluate structures.extxyz",
    "evaluate shipped --rediscover published/",
    cls=SeveralValues,
)
def evaluate(
    source: Annotated[
        Path,
        cli.path_argument(
            "A .safetensors checkpoint, 'shipped', or a file, ZIP archive or folder of structures.",
            "SOURCE",
        ),
    ],
    campaign: Annotated[
        Path,
        cli.path_option(
            "Campaign file; of a checkpoint, that of its training.",
            "--campaign",
            "-c",
            metavar="FILE",
        ),
    ] = Path("campaign.yaml"),
    against: Annotated[
        Words, several("Baseline proposers: random, symmetric, substitution.", "NAME")
    ] = None,
    compositions: cli.Compositions = None,
    atoms_per_cell: cli.AtomsPerCell = None,
    samples: Annotated[int, typer.Option(min=1, help="Samples per composition.")] = 100,
    relax: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Relaxed structures per composition; 0: no energies; default: 20 samples of a "
            "proposer, all given structures.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of all samples.")] = 0,
    remove_overlaps: Annotated[
        bool,
        typer.Option("--remove-overlaps", help="Separate overlapping atoms of given structures."),
    ] = False,
    rediscover: Annotated[
        Path | None,
        cli.path_option(
            "Crystals to be found: a file or folder of structures, or an array (.npz).",
            "--rediscover",
            metavar="PATH",
        ),
    ] = None,
    window: Annotated[
        float,
        typer.Option(min=0, help="Largest energy above hull of crystals to be found, eV/atom."),
    ] = 0.2,
    export: Annotated[
        bool,
        typer.Option(
            "--export", help="Write samples and relaxed structures as extended XYZ and CIF (ZIP)."
        ),
    ] = False,
    workers: cli.Workers = cli.N_CORES,
    workdir: cli.Workdir = cli.WORKDIR_DEFAULT,
    output: Annotated[
        Path | None,
        cli.path_option("Folder of the report; default: a folder in --workdir.", "--output", "-o"),
    ] = None,
    form: Annotated[
        Literal["table", "json"], typer.Option("--format", help="Output format.")
    ] = "table",
) -> None:
    """Evaluate samples of a trained generator, or structures of any origin.

    Before relaxation: composition match, validity, uniqueness, novelty and rediscovery of
    held-out structures. After relaxation with the potential of the campaign: stability, diversity
    and displacements. The report also has the published values and the baselines of --against.
    --rediscover counts the crystals near the hull, outside the training set, that are found.
    Writes evaluation.json, samples.csv and evaluation.png. Finished relaxations are stored in the
    working directory; run the same command to resume.
    """
    if output is not None:
        require_writable(output, "--output")
    if output is None or relax != 0 or rediscover is not None:
        require_writable(workdir, "--workdir")
    from gan_htvs.evaluation.sample_sets import SampleSettings
    from launchers.cli.evaluation_tables import note_shortfalls, print_report
    from launchers.local.proposer_evaluation import EvaluationOptions, evaluate_source

    options = EvaluationOptions(
        against=against or (),
        compositions=cli.chosen_compositions(compositions, atoms_per_cell),
        sampling=SampleSettings(n_samples=samples, seed=seed),
        n_relaxed=relax,
        removes_overlaps=remove_overlaps,
        rediscover=rediscover,
        window=window,
    )
    terminal = console.err if form == "json" else console.out
    with console.WorkProgress(terminal) as progress:
        evaluated = evaluate_source(
            source, campaign, options, n_workers=workers, workdir=workdir, on_progress=progress
        )
    report = evaluated.report
    files = evaluated.write(output or workdir / report.campaign / report.folder, exports=export)
    note_shortfalls(report)
    if form == "json":
        typer.echo(report.model_dump_json(indent=1))
    else:
        print_report(report, files)
