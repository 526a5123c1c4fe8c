"""Printed summaries of a campaign: its settings before a run, its counts afterwards."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from gan_htvs.campaign.compositions import describe_cells
from gan_htvs.core.stages import CALCULATIONS, Step
from gan_htvs.dataset.skipped import format_reasons
from gan_htvs.prescreen.summary import summarize
from gan_htvs.results.builders.job_outputs import latest_gates
from launchers.console.output import (
    Grid,
    findings_table,
    funnel_table,
    grid_table,
    note,
    out,
    rounds_grid,
)
from launchers.console.quantities import counted
from launchers.launchpad.samples import longest_samples
from launchers.monitor.failed_calculations import failed_calculations
from launchers.monitor.status.survey import survey
from launchers.monitor.status.table import headline
from launchers.results.campaign_report import read_results

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.core.candidate import PrescreenVerdict
    from gan_htvs.prescreen.summary import PrescreenSummary
    from gan_htvs.results.funnel import Funnel
    from gan_htvs.results.rounds import Rounds
    from launchers.console.output import Cell
    from launchers.launchpad.database import Databases


def print_heading(campaign: Campaign) -> None:
    """Print name, chemical system, compositions, proposers and searched cells of a campaign."""
    compositions = campaign.target_counts
    sampling = campaign.sampling
    n_structures = len(compositions) * sampling.structures_per_composition
    out.print(
        f"[bold]{escape(campaign.name)}[/bold]: {campaign.chemical_system.chemsys}, "
        f"{len(compositions)} compositions, {n_structures} structures "
        f"from {'each of ' if len(sampling.proposers) > 1 else ''}{', '.join(sampling.proposers)}"
    )
    print_cells(campaign)


def print_cells(campaign: Campaign) -> None:
    """Print which cells a campaign searches, unless it samples no structures."""
    if cells := campaign.target_counts:
        out.print(f"Cells searched: {describe_cells(campaign.chemical_system, cells)}")


def print_summary(campaign: Campaign, databases: Databases, launchpad: Path) -> bool:
    """Print funnel, prescreen, sampling statistics and the next command.

    Returns
    -------
    Whether a job other than a calculation failed. Failed calculations are valid results.
    """
    results = read_results(databases, campaign.name)
    print_funnel(campaign, results.funnel)
    for sentence in results.inputs.source_notes:
        note(sentence)
    print_rounds(results.rounds)
    print_prescreen(campaign, list(results.prescreened.values()))
    print_sampling(campaign, databases)
    if campaign.engines.vasp.pre_relaxation:
        _print_pre_relaxation(campaign, databases)
    if failed := failed_calculations(databases, campaign):
        note(
            f"{len(failed)} calculations failed; `gan-htvs retry {campaign.name}` lists them and "
            "queues them again."
        )
    failed_jobs = databases.launchpad().jobs([campaign.name], states=["FIZZLED"])
    for job in failed_jobs:
        out.print(f"[red]job failed[/red] {escape(job.name)}: {escape(job.error)}")
    out.print(f"Results: collection [bold]candidates[/bold] at {databases.settings.address}")
    option = "" if launchpad == Path("my_launchpad.yaml") else f" --launchpad {launchpad}"
    out.print(f"Next:    [bold]gan-htvs candidates{option}[/bold]")
    return any(job.step not in CALCULATIONS for job in failed_jobs)


def print_unfinished(campaign: str, databases: Databases) -> bool:
    """Print what is left of a campaign and how to continue, unless it is finished.

    Returns
    -------
    Whether work is left.
    """
    (status,) = survey(databases, campaign).campaigns
    if status.is_finished:
        return False
    out.print(headline(status))
    if status.findings:
        out.print(findings_table(status.findings))
    return True


def print_funnel(campaign: Campaign, funnel: Funnel) -> None:
    """Print the number of candidates that pass each stage, measured and published."""
    out.print(funnel_table(campaign, funnel))
    if funnel.hull_warning is not None:
        note(funnel.hull_warning)
    if (warning := campaign.references.completeness_warning) is not None:
        note(warning)
    if funnel.implausible_warning is not None:
        note(funnel.implausible_warning)
    if funnel.caveat is not None:
        fix = (
            "Larger limits in engines.band_gap may complete them; gan-htvs show ID has the reason."
        )
        note(f"{funnel.caveat} {fix}")
    if funnel.p1_note is not None:
        out.print(funnel.p1_note)


def print_rounds(rounds: Rounds) -> None:
    """Print what each round of sampling found, if there are several, and why they ended."""
    if rounds.counts:
        out.print(grid_table(rounds_grid(rounds)))
    if rounds.stopped is not None:
        note(rounds.stopped)


def print_prescreen(campaign: Campaign, records: Sequence[PrescreenVerdict]) -> None:
    """Print rejections and cost of the prescreen, and the estimated loss by early stopping."""
    if campaign.prescreen is None or not records:
        return
    summary = summarize(records)
    settings = campaign.prescreen
    names = [potential.name for potential in settings.potentials(campaign.engines)]
    potentials = ", confirmed by ".join(names)
    rows: list[Sequence[Cell]] = []
    parts = [(part.name, part) for part in summary.parts]
    for name, part in (*parts, ("all", summary.total)):
        mean_seconds = f"{part.cpu_seconds / part.n:,.2f}" if part.n else "-"
        rows.append((name, part.n, part.n_steps, round(part.cpu_seconds), mean_seconds))
    rows.insert(-1, ())
    head = ("rejected at", "structures", "steps", "CPU s", "CPU s each")
    out.print(grid_table(Grid(f"Prescreen of {campaign.name} ({potentials})", head, rows)))
    if summary.n_stopped:
        out.print(_losses(summary, campaign.prescreen_window))


def _losses(summary: PrescreenSummary, window: float) -> str:
    """Describe the structures lost by early stopping, estimated by the audit; window in eV/atom."""
    audit, lost = summary.audit, summary.lost
    stopped = f"Early stopping ended {counted(summary.n_stopped, 'relaxation')}"
    if lost is None or audit.interval is None:
        return f"{stopped}; no comparable relaxation was audited, so the loss is unknown."
    low, high = audit.interval
    return (
        f"{stopped}. Of {audit.n:,} audited relaxations that it would have ended, {audit.k:,} came "
        f"within {window:g} eV/atom of the hull, {100 * audit.k / audit.n:.0f} % (95 % interval "
        f"{100 * low:.0f} to {100 * high:.0f} %). Estimated loss: {lost.expected:,.0f} structures "
        f"({lost.fewest:,.0f} to {lost.most:,.0f})."
    )


def print_sampling(campaign: Campaign, databases: Databases) -> None:
    """Print numbers of raw samples, rejection reasons, and compositions with too few structures."""
    fields = ("stream", "proposer", "composition", "requested", "tried", "rejections", "exhausted")
    query = {"metadata.campaign": campaign.name, "metadata.step": Step.PROPOSE.value}
    with databases.store("outputs", key="uuid") as outputs:
        documents = outputs.query(
            query | {"output.stream": {"$exists": True}},
            [f"output.{name}" for name in (*fields, "proposals.candidate_id")],
        )
        samples = longest_samples(document["output"] for document in documents).values()
    proposers = sorted({sample["proposer"] for sample in samples})
    for proposer in proposers:
        of_proposer = [sample for sample in samples if sample["proposer"] == proposer]
        n = sum(sample["tried"] for sample in of_proposer)
        rejections = sum((Counter(s["rejections"]) for s in of_proposer), Counter[str]())
        suffix = f" by {proposer}" if len(proposers) > 1 else ""
        reasons = format_reasons(rejections) or "none"
        out.print(f"Sampling{suffix}: {n} raw samples, rejected before relaxation: {reasons}")
    for sample in samples:
        n_proposals = len(sample["proposals"])
        if n_proposals < sample["requested"]:
            note(
                f"{sample['composition']}: {n_proposals} of {sample['requested']} structures after "
                f"{sample['tried']} samples{_advice(sample)}."
            )


def _print_pre_relaxation(campaign: Campaign, databases: Databases) -> None:
    """Print the mean numbers of pre-relaxation steps and of ionic steps in VASP."""
    fields = ["output.relaxed.pre_relaxation_steps", "output.relaxed.n_steps"]
    with databases.store("outputs", key="uuid") as outputs:
        gates = latest_gates(outputs, [campaign.name], fields).values()
    relaxed = [gate["output"].get("relaxed") or {} for gate in gates]
    pre_relaxed = [result for result in relaxed if result.get("pre_relaxation_steps") is not None]
    if pre_relaxed:
        before = mean(result["pre_relaxation_steps"] for result in pre_relaxed)
        after = mean(result["n_steps"] for result in pre_relaxed)
        out.print(
            f"Pre-relaxation: {before:.1f} steps of {campaign.engines.vasp.pre_relaxation} before "
            f"{after:.1f} ionic steps of VASP (mean of {len(pre_relaxed)})"
        )


def _advice(sample: Mapping[str, Any]) -> str:
    """Return the cause of too few structures, and the setting to change."""
    if sample["exhausted"]:
        return f"; {sample['proposer']} is exhausted"
    train = "train longer or " if sample["proposer"] == "gan" else ""
    return f" by {sample['proposer']}; {train}raise sampling.max_tries_per_structure"
