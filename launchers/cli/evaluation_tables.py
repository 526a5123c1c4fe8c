"""Tables of ``gan-htvs evaluate``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, get_args

from rich.markup import escape

from gan_htvs.core.statistics import Share
from gan_htvs.core.text import join_names
from gan_htvs.dataset.skipped import format_reasons
from gan_htvs.evaluation.evaluation_documents import METASTABLE, PERCENTS, Measures, Outcome
from launchers.console.output import Grid, cell_text, grid_table, note, out

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gan_htvs.evaluation.evaluation_documents import Report
    from gan_htvs.evaluation.rediscovery_documents import RediscoveryTargets


MANY = 100
"""Denominator from which percentages have a decimal."""


MOST_COMPOSITIONS = 40
"""Number of compositions up to which each has lines of its own."""


MOST_REASONS = 3
"""Number of rejection reasons in a note."""


BOUNDED = "the limit on tries (sampling.max_tries_per_structure) was reached"


EXHAUSTED = "the proposer has no more samples"
"""Reasons for fewer structures than requested."""


SHARE_NAMES = [
    name
    for name, field in Measures.model_fields.items()
    if Share in (field.annotation, *get_args(field.annotation))
]
"""Fields of the measures that are shares, in printing order."""


RELAXED_NAMES = [name for name in SHARE_NAMES if name.endswith("_relaxed")]


SHARES = "k/n, share and Wilson 95 % interval."


STABILITY = (
    "Stable: sound, converged and within the distance of the "
    "hull after relaxation. S.U.N.: stable; unique among the proposer's relaxed structures; and "
    "novel, matching no training structure and no reference phase after relaxation."
)

PUBLISHED = (
    "Published structures were relaxed by DFT, these by an interatomic potential: compare "
    "proposers with each other, not with published shares."
)


NO_PHASES = "No reference phases are known for {}: novelty only refers to the training structures."


def note_shortfalls(report: Report) -> None:
    """Print a note for each proposer that found fewer structures than requested, with reasons."""
    for evaluation in report.evaluations:
        draws = evaluation.draws
        short = [draw for draw in draws if draw.n_found < draw.requested]
        if not short:
            continue
        ends = dict.fromkeys(EXHAUSTED if draw.exhausted else BOUNDED for draw in short)
        rejections = sum((Counter(draw.rejections) for draw in short), Counter[str]())
        reasons = format_reasons(rejections, most=MOST_REASONS)
        note(
            f"{evaluation.proposer}: {sum(draw.n_found for draw in draws):,} of the "
            f"{sum(draw.requested for draw in draws):,} requested structures were found: "
            f"{' and '.join(ends)} after {sum(draw.tried for draw in short):,} raw samples of "
            + join_names([draw.composition for draw in short])
            + (f"; main rejection reasons: {reasons}." if reasons else ".")
        )


def print_report(report: Report, files: Sequence[Path]) -> None:
    """Print the measures of all compositions, and then of each composition."""
    first = report.evaluations[0]
    origin = f" ({report.steps} steps)" if report.checkpoint else f" ({first.proposer})"
    seed = "" if first.seed is None else f", seed {first.seed}"
    out.print(
        f"[bold]{escape(report.campaign)}[/bold]: {report.source}{escape(origin)}, "
        f"{len(first.compositions)} compositions{seed}; "
        f"{first.training_structures} training structures, {first.held_out_structures} held out"
    )
    out.print(grid_table(_overall(report)))
    if report.is_relaxed:
        out.print(grid_table(_stability(report)))
    if report.targets:
        out.print(grid_table(_rediscovery(report, report.targets)))
    notes = [SHARES]
    if len(_compositions(report)) <= MOST_COMPOSITIONS:
        out.print(grid_table(_by_composition(report)))
    else:
        notes.append(f"evaluation.json has the measures of all {len(_compositions(report))} cells.")
    if report.is_relaxed:
        notes += [STABILITY, *([PUBLISHED] if report.published else [])]
    out.print(" ".join(notes), soft_wrap=True)
    if not first.reference_phases:
        out.print(NO_PHASES.format(first.chemsys), soft_wrap=True)
    for path in files:
        out.print(f"wrote {path}", soft_wrap=True)


def share_text(share: Share | None) -> str:
    """Format a share as '3/20 15 % (5-36)'."""
    if share is None:
        return "-"
    if share.value is None or share.interval is None:
        return f"{share.k}/{share.n}"
    digits = 1 if share.n >= MANY else 0
    value, low, high = (f"{100 * x:.{digits}f}" for x in (share.value, *share.interval))
    return f"{share.k}/{share.n} {value} % ({low}-{high})"


def _overall(report: Report) -> Grid:
    measures = [evaluation.overall for evaluation in report.evaluations]
    shares = {
        name: (name.replace("_", " "), *(share_text(getattr(m, name)) for m in measures))
        for name in SHARE_NAMES
    }
    rows = [row for name, row in shares.items() if name not in RELAXED_NAMES]
    if report.is_relaxed:
        efforts = (f"{cell_text(m.mean_steps)}, {cell_text(m.cpu_seconds)}" for m in measures)
        rows += [
            ("sent to relaxation", *(str(m.n_relaxed) for m in measures)),
            ("  sound / hole / not converged / failed", *map(_outcomes, measures)),
            ("  mean steps, total processor time (s)", *efforts),
            *map(shares.__getitem__, RELAXED_NAMES),
            ("  mean RMSD to the start (A)", *map(_mean_rmsd, measures)),
            ("prototypes: different, effective", *(_diversity(m, "prototypes") for m in measures)),
            ("space groups", *(_diversity(m, "space_groups") for m in measures)),
        ]
    names = [evaluation.proposer for evaluation in report.evaluations]
    return Grid("Samples of all compositions", ("", *names), rows)


def _mean_rmsd(measures: Measures) -> str:
    return "-" if measures.mean_rmsd is None else f"{measures.mean_rmsd:.2f}"


def _diversity(measures: Measures, of: str) -> str:
    if measures.diversity is None:
        return "-"
    effective = getattr(measures.diversity, f"effective_{of}")
    return f"{getattr(measures.diversity, of)}, {effective:.1f}"


def _outcomes(measures: Measures) -> str:
    counts = Counter(measures.outcomes)
    holes = counts[Outcome.HOLE] + counts[Outcome.IMPLAUSIBLE]
    failed = counts[Outcome.FAILED] + counts[Outcome.INVALID]
    return f"{counts[Outcome.SOUND]} / {holes} / {counts[Outcome.NOT_CONVERGED]} / {failed}"


def _stability(report: Report) -> Grid:
    columns = [f"{e.proposer}\n{e.level_of_theory}" for e in report.evaluations]
    columns += [
        f"published: {paper.chemsys}\n{paper.source}\n{paper.level_of_theory}"
        for paper in report.published[:1]
    ]
    rows: list[tuple[str, ...]] = []
    for i, threshold in enumerate(report.evaluations[0].thresholds):
        at = [evaluation.overall.thresholds[i] for evaluation in report.evaluations]
        published = [
            f"{share_text(share.stable)} {share.label}"
            for share in report.published
            if share.threshold == threshold
        ]
        cells = ["\n".join(published) or "-"] if report.published else []
        blank = [""] * len(cells)
        within = f"<= {1000 * threshold:g} meV/atom" if threshold else "on or below the hull"
        sun = "S.U.N. (MSUN)" if threshold == METASTABLE else "S.U.N."
        rows += [
            (f"stable, {within}", *(share_text(t.stable) for t in at), *cells),
            (f"  {sun}", *(share_text(t.sun) for t in at), *blank),
            ("  S.U.N. per processor hour", *(cell_text(t.sun_per_cpu_hour) for t in at), *blank),
            (),
        ]
    measured = [evaluation.overall for evaluation in report.evaluations]
    blank = [""] * bool(report.published)
    for percent in PERCENTS:
        name = f"  {percent} % of sound ones are below" if percent else "lowest energy, meV/atom"
        energies = [m.energy_percentiles.get(percent) for m in measured]
        texts = ["-" if energy is None else str(round(1000 * energy)) for energy in energies]
        rows.append((name, *texts, *blank))
    return Grid("After relaxation", ("of structures sent to relaxation", *columns), rows)


def _by_composition(report: Report) -> Grid:
    thresholds = report.evaluations[0].thresholds if report.is_relaxed else []
    stability = [f"{kind}\n<= {t:g} eV" for t in thresholds for kind in ("stable", "S.U.N.")]
    shares = ("matched", "valid", "unique", "novel", "rediscovered")
    rows: list[tuple[str, ...]] = []
    measured = [{m.composition: m for m in e.compositions} for e in report.evaluations]
    for composition in _compositions(report):
        for evaluation, by_composition in zip(report.evaluations, measured, strict=True):
            if (measures := by_composition.get(composition)) is None:
                continue
            values = [getattr(measures, name) for name in shares]
            for at in measures.thresholds if report.is_relaxed else ():
                values += [at.stable, at.sun]
            fractions = (f"{value.k}/{value.n}" for value in values)
            rows.append((composition or "", evaluation.proposer, *fractions))
        rows.append(())
    return Grid("By composition", ("composition", "proposer", *shares, *stability), rows)


def _compositions(report: Report) -> list[str | None]:
    """Return the compositions of all evaluations, each once."""
    return list(dict.fromkeys(m.composition for e in report.evaluations for m in e.compositions))


def _rediscovery(report: Report, targets: RediscoveryTargets) -> Grid:
    """List the targets found by each proposer, in total and by reduced formula."""
    found = report.rediscoveries
    published = found[0].published
    columns = [evaluation.proposer for evaluation in report.evaluations]
    if published:
        columns.append(f"published: {published.label}\n{published.source}")
    blank = [""] * bool(published)
    shares = {
        "of all formulas, before relaxation": [share_text(r.as_generated) for r in found],
        "  after relaxation": [share_text(r.relaxed) for r in found],
        "of sampled formulas, before relaxation": [
            share_text(r.sampled_as_generated) for r in found
        ],
        "  after relaxation ": [share_text(r.sampled_relaxed) for r in found],
    }
    rows: list[tuple[str, ...]] = [(name, *texts, *blank) for name, texts in shares.items()]
    if published:
        within = f"<= {1000 * published.window:g} meV/atom, {published.level_of_theory}"
        rows[1] = (*rows[1][:-1], f"{100 * published.share:g} % ({within})")
    rows.append(())
    for of_formula in zip(*(r.formulas for r in found), strict=True):
        if not any(r.n_samples for r in of_formula):
            continue
        texts = [
            f"{r.as_generated.k} | {r.relaxed.k if r.relaxed else '-'} of {r.as_generated.n}"
            for r in of_formula
        ]
        rows.append((f"{of_formula[0].formula}: before | after", *texts, *blank))
    title = (
        f"Rediscovery, targets within {1000 * targets.window:g} meV/atom of the hull: "
        f"{len(targets.targets)} of {targets.n_given} structures"
    )
    return Grid(title, ("found", *columns), rows)
