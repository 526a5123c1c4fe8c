"""The command ``gan-htvs evaluate``: from files to a report, and the report on a terminal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from gan_htvs.campaign import generator_file
from gan_htvs.campaign_file import checked_campaign, read_campaign
from gan_htvs.dataset import build_dataset
from gan_htvs.dataset.skipped import spell_reasons
from gan_htvs.errors import UserError
from gan_htvs.evaluation import evaluate
from gan_htvs.evaluation.documents import Outcome
from gan_htvs.evaluation.report import make_report
from gan_htvs.generator import checkpoint
from gan_htvs.proposers import ProposerName, make_proposer
from gan_htvs.relaxation import Relaxations
from gan_htvs.thermodynamics.references import phases_of
from gan_htvs.words import listed
from launchers.console import note, note_skipped, out

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from gan_htvs.evaluation import Evaluation, Measures, Report
    from gan_htvs.share import Share

BASELINES = tuple(name for name in ProposerName if name is not ProposerName.GAN)

MANY = 100
"""Denominator from which tenths of a percent are worth printing."""

MOST_REASONS = 3
"""Reasons of rejection that are told."""

HULL = "on or below the hull"

BEFORE_RELAXATION = {
    "read": "composition read by the classifier",
    "matched": "  and in the decoded rows",
    "balanced": "charge-balanced",
    "valid_before_push": "valid before the push",
    "valid": "valid after it",
    "unique": "unique",
    "novel": "novel",
    "rediscovered": "held-out structures found",
}
"""Titles of shares, by their names in the measures."""

SHARES = "k/n, share and Wilson 95 % interval."

STABILITY = (
    "Stable: sound, converged and within the distance of the "
    "hull after relaxation. S.U.N.: stable; unique among the proposer's relaxed structures; and "
    "novel, matching no training structure and no known phase after relaxation. Published "
    "structures were relaxed by DFT, these by an interatomic potential: compare proposers with "
    "each other, not with the published shares."
)

NO_PHASES = (
    "No reference phases are known for {}: novel here is against the training structures alone."
)

AFTER_RELAXATION = {
    "unique_relaxed": "unique after relaxation",
    "novel_relaxed": "novel after relaxation",
    "rediscovered_relaxed": "held-out found, relaxed",
}
"""The same."""


def evaluate_checkpoint(
    checkpoint_file: Path,
    campaign_file: Path,
    *,
    against: Sequence[str],
    compositions: Sequence[str],
    n_samples: int,
    n_relaxed: int,
    seed: int,
    n_workers: int,
    workdir: Path,
    on_progress: Callable[[str, int, int], None],
) -> Report:
    """Judge a trained generator and the baselines beside it.

    Parameters
    ----------
    checkpoint_file, campaign_file
        The generator, or ``shipped``, and the campaign that says what it is for.
    against
        Names of baselines.
    compositions
        Cell formulas; none: those of the campaign.
    n_samples, n_relaxed
        Structures sampled, and the first of them relaxed, of each composition.
    seed
        Decides all samples.
    n_workers
        Processes that relax.
    workdir
        Relaxations are remembered in a folder of it, named after the campaign.
    on_progress
        Told what goes on.

    Raises
    ------
    UserError
        If a file, a name or a composition is wrong.
    """
    baselines = _baselines(against)
    campaign = read_campaign(campaign_file)
    if compositions:
        document = campaign.model_dump(mode="json") | {"compositions": list(compositions)}
        campaign = checked_campaign(document, source="--compositions")
    system = campaign.chemical_system
    trained = checkpoint.load(generator_file(checkpoint_file), system=system)
    proposers = [
        make_proposer(name, system, campaign.oxidation_states, trained)
        for name in (ProposerName.GAN, *baselines)
    ]
    relaxations = Relaxations.of(campaign, workdir, n_processes=n_workers)
    dataset = build_dataset(
        system,
        campaign.oxidation_states,
        campaign.dataset,
        on_progress=lambda done, total: on_progress("dataset", done, total),
    )
    note_skipped(dataset.skipped)
    training, held_out = dataset.split(campaign.dataset.held_out)
    if trained.dataset not in (None, training.hash):
        raise UserError(
            f"{campaign_file}: {checkpoint_file} learnt from another dataset than this campaign's "
            "(section dataset), so that novelty and rediscovery would mean nothing; give the "
            "campaign file that it was trained with."
        )
    limits = campaign.thresholds
    evaluations = [
        evaluate(
            proposer,
            campaign.target_counts,
            oxidation_states=campaign.oxidation_states,
            training=training,
            held_out=held_out,
            relaxations=relaxations,
            known_phases=phases_of(campaign, by_potential=True)
            if campaign.references.path
            else None,
            n_samples=n_samples,
            n_relaxed=n_relaxed,
            seed=seed,
            thresholds=(limits.metastable, limits.synthesizable, 0.0),
            max_tries_per_structure=campaign.sampling.max_tries_per_structure,
            on_progress=on_progress,
        )
        for proposer in proposers
    ]
    return make_report(campaign, trained, dataset, evaluations)


def _baselines(names: Sequence[str]) -> list[ProposerName]:
    for name in names:
        if name not in BASELINES:
            raise UserError(f"--against: {name!r} is none of {', '.join(BASELINES)}.")
    return [ProposerName(name) for name in dict.fromkeys(names)]


def note_shortfalls(report: Report) -> None:
    """Tell of which compositions fewer structures were found than wanted, and why."""
    for evaluation in report.evaluations:
        if any(draw.found < draw.wanted for draw in evaluation.draws):
            note(_shortfall(evaluation))


def _shortfall(evaluation: Evaluation) -> str:
    draws = evaluation.draws
    short = [draw for draw in draws if draw.found < draw.wanted]
    ended = [draw for draw in short if draw.exhausted]
    stopped = [draw for draw in short if not draw.exhausted]
    ends = []
    if stopped:
        tried, of = sum(d.tried for d in stopped), listed([d.composition for d in stopped])
        ends.append(
            "the bound of tries (sampling.max_tries_per_structure) was reached after "
            f"{tried:,} raw samples of {of}"
        )
    if ended:
        of = listed([draw.composition for draw in ended])
        ends.append(f"it has no more than {sum(draw.tried for draw in ended):,} of {of}")
    rejections = sum((Counter(draw.rejections) for draw in short), Counter[str]())
    reasons = spell_reasons(rejections, most=MOST_REASONS)
    return (
        f"{evaluation.proposer}: {sum(draw.found for draw in draws):,} of the "
        f"{sum(draw.wanted for draw in draws):,} structures wanted were found: "
        + " and ".join(ends)
        + (f"; most were rejected for: {reasons}." if reasons else ".")
    )


def print_report(report: Report, files: Sequence[Path]) -> None:
    """Print the measures of all compositions together, then the compositions one by one."""
    first = report.evaluations[0]
    out.print(
        f"[bold]{escape(report.campaign)}[/bold]: checkpoint {report.checkpoint[:12]} "
        f"({report.steps} steps), {len(first.compositions)} compositions, seed {first.seed}; "
        f"{first.training_structures} training structures, {first.held_out_structures} held out"
    )
    out.print(_overall(report))
    if report.is_relaxed:
        out.print(_stability(report))
    out.print(_by_composition(report))
    out.print(f"{SHARES} {STABILITY}" if report.is_relaxed else SHARES, soft_wrap=True)
    if not first.known_phases:
        out.print(NO_PHASES.format(first.chemsys), soft_wrap=True)
    for path in files:
        out.print(f"wrote {path}", soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _overall(report: Report) -> Table:
    names = [evaluation.proposer for evaluation in report.evaluations]
    table = _table("Samples of all compositions", "", *names)
    for title, values in _rows(report):
        table.add_row(title, *values)
    return table


def _stability(report: Report) -> Table:
    columns = [f"{e.proposer}\n{e.level_of_theory}" for e in report.evaluations]
    kim = report.published[0]
    published = f"published: {kim.chemsys}\n{kim.source}\n{kim.level_of_theory}"
    table = _table("After relaxation", "of those sent to it", *columns, published)
    for i, threshold in enumerate(report.evaluations[0].thresholds):
        at = [evaluation.overall.thresholds[i] for evaluation in report.evaluations]
        shares = [
            f"{share_text(p.stable)} {p.label}"
            for p in report.published
            if p.threshold == threshold
        ]
        stable = (share_text(t.stable) for t in at)
        table.add_row(f"stable, {_within(threshold)}", *stable, "\n".join(shares) or "-")
        table.add_row("  S.U.N.", *(share_text(t.sun) for t in at))
        table.add_row("  S.U.N. per processor hour", *(_number(t.sun_per_cpu_hour) for t in at))
        table.add_section()
    return table


def _rows(report: Report) -> list[tuple[str, list[str]]]:
    measures = [evaluation.overall for evaluation in report.evaluations]
    before = _share_rows(measures, BEFORE_RELAXATION)
    if not report.is_relaxed:
        return before
    return [
        *before,
        ("sent to relaxation", [str(m.n_relaxed) for m in measures]),
        (
            "  sound / hole / not converged / failed",
            [" / ".join(str(n) for n in _outcomes(m)) for m in measures],
        ),
        ("  steps each, processor s in all", [_effort(m) for m in measures]),
        *_share_rows(measures, AFTER_RELAXATION),
    ]


def _share_rows(
    measures: Sequence[Measures], titles: Mapping[str, str]
) -> list[tuple[str, list[str]]]:
    return [
        (title, [share_text(getattr(m, field)) for m in measures])
        for field, title in titles.items()
    ]


def _outcomes(measures: Measures) -> tuple[int, int, int, int]:
    fates = Counter(measures.fates)
    holes = fates[Outcome.HOLE] + fates[Outcome.UNBELIEVABLE]
    return fates[Outcome.SOUND], holes, fates[Outcome.NOT_CONVERGED], fates[Outcome.FAILED]


def _effort(measures: Measures) -> str:
    return f"{_number(measures.mean_steps)}, {_number(measures.cpu_seconds)}"


def _by_composition(report: Report) -> Table:
    thresholds = report.evaluations[0].thresholds if report.is_relaxed else []
    stability = [f"{kind}\n<= {t:g} eV" for t in thresholds for kind in ("stable", "S.U.N.")]
    titles = ("composition", "proposer", "matched", "valid", "unique", "novel", "held-out")
    table = _table("By composition", *titles, *stability)
    for rows in zip(*(evaluation.compositions for evaluation in report.evaluations), strict=True):
        for evaluation, measures in zip(report.evaluations, rows, strict=True):
            distances = measures.thresholds if report.is_relaxed else []
            shares = [
                measures.matched,
                measures.valid,
                measures.unique,
                measures.novel,
                measures.rediscovered,
                *(share for at in distances for share in (at.stable, at.sun)),
            ]
            formula = escape(measures.composition or "")
            fractions = (f"{share.k}/{share.n}" for share in shares)
            table.add_row(formula, evaluation.proposer, *fractions)
        table.add_section()
    return table


def _within(threshold: float) -> str:
    return f"<= {1000 * threshold:g} meV/atom" if threshold else HULL


def share_text(share: Share | None) -> str:
    """Write a share as '3/20 15 % (5-36)'."""
    if share is None:
        return "-"
    if share.value is None or share.interval is None:
        return f"{share.k}/{share.n}"
    digits = 1 if share.n >= MANY else 0
    value, low, high = (f"{100 * x:.{digits}f}" for x in (share.value, *share.interval))
    return f"{share.k}/{share.n} {value} % ({low}-{high})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
