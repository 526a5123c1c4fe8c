"""Printed descriptions of a campaign: what it will do, and its results in counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from launchers.console.output import Grid, funnel_table, grid_table, note, out
from launchers.console.quantities import counted
from launchers.launchpad.samples import longest_samples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gan_htvs.campaign.model import Campaign
    from gan_htvs.core.candidate import PrescreenVerdict
    from gan_htvs.prescreen.summary import PrescreenSummary
    from gan_htvs.results.funnel import Funnel
    from launchers.console.output import Cell
    from launchers.launchpad.database import Databases


def print_heading(campaign: Campaign) -> None:
    """Print what is about to run."""
    compositions = campaign.target_counts
    sampling = campaign.sampling
    n_structures = len(compositions) * sampling.structures_per_composition
    out.print(
        f"[bold]{escape(campaign.name)}[/bold]: {campaign.chemical_system.chemsys}, "
        f"{len(compositions)} compositions, {n_structures} structures "
        f"from {'each of ' if len(sampling.proposers) > 1 else ''}{', '.join(sampling.proposers)}"
    )


def print_summary(campaign: Campaign, databases: Databases, launchpad: Path) -> bool:
    """Print the funnel, the prescreen, what was rejected while sampling, and what to type next.

    Returns
    -------
    Whether a job raised that should not; a failed calculation is a result like another.
    """
    from gan_htvs.core.stages import CALCULATIONS
    from launchers.monitor.failed_calculations import failed_calculations
    from launchers.results.campaign_report import read_results

    results = read_results(databases, campaign.name)
    print_funnel(campaign, results.funnel)
    print_prescreen(campaign, results.prescreened)
    _print_sampling(campaign, databases)
    if campaign.engines.vasp.pre_relaxation:
        _print_pre_relaxation(campaign, databases)
    if failed := failed_calculations(databases, campaign):
        note(
            f"{len(failed)} calculations failed; `gan-htvs retry {campaign.name}` lists them and "
            "queues them again."
        )
    raised = databases.launchpad().jobs([campaign.name], states=["FIZZLED"])
    for job in raised:
        out.print(f"[red]job failed[/red] {escape(job.name)}: {escape(job.error)}")
    out.print(f"Results: collection [bold]candidates[/bold] at {databases.settings.address}")
    option = "" if launchpad == Path("my_launchpad.yaml") else f" --launchpad {launchpad}"
    out.print(f"Next:    [bold]gan-htvs candidates{option}[/bold]")
    return any(job.step not in CALCULATIONS for job in raised)


def print_funnel(campaign: Campaign, funnel: Funnel) -> None:
    """Print how many candidates pass each stage, measured here and published."""
    out.print(funnel_table(campaign, funnel))
    if funnel.caveat is not None:
        note(f"{funnel.caveat} The next run computes what was stopped.")


def print_prescreen(campaign: Campaign, records: Sequence[PrescreenVerdict]) -> None:
    """Print where structures left the prescreen, what that took, and what stopping early lost."""
    if campaign.prescreen is None or not records:
        return
    from gan_htvs.prescreen.summary import summarize

    summary = summarize(records)
    settings, engines = campaign.prescreen, campaign.engines
    confirming = settings.confirming(engines)
    by = settings.relaxing(engines).name
    if confirming is not None:
        by += f", confirmed by {confirming.name}"
    parts = [(part.name, part) for part in summary.parts]
    rows: list[Sequence[Cell]] = []
    for name, part in (*parts, ("all", summary.total)):
        each = f"{part.cpu_seconds / part.n:,.2f}" if part.n else "-"
        rows.append((name, part.n, part.n_steps, round(part.cpu_seconds), each))
    rows.insert(-1, ())
    head = ("rejected at", "structures", "steps", "CPU s", "CPU s each")
    out.print(grid_table(Grid(f"Prescreen of {campaign.name} ({by})", head, rows)))
    if summary.n_stopped:
        out.print(_losses(summary, settings.window or campaign.thresholds.metastable))


def _losses(summary: PrescreenSummary, window: float) -> str:
    """Describe what stopping early lost, estimated by the audit; the window is in eV/atom."""
    audit, lost = summary.audit, summary.lost
    stopped = f"Early stopping ended {counted(summary.n_stopped, 'relaxation')}"
    if lost is None or audit.interval is None:
        return f"{stopped}; none like them was audited, so what that lost is unknown."
    low, high = audit.interval
    return (
        f"{stopped}. Of {audit.n:,} audited ones that it would have ended, {audit.k:,} came within "
        f"{window:g} eV/atom of the hull, {100 * audit.k / audit.n:.0f} % (95 % interval "
        f"{100 * low:.0f} to {100 * high:.0f} %): it lost about {lost.expected:,.0f} "
        f"({lost.fewest:,.0f} to {lost.most:,.0f})."
    )


def _print_sampling(campaign: Campaign, databases: Databases) -> None:
    """Print how many raw samples it took, why the others were rejected, and who gave up."""
    from gan_htvs.core.stages import Step
    from gan_htvs.dataset.skipped import format_reasons

    fields = ("stream", "proposer", "composition", "requested", "tried", "rejections", "exhausted")
    with databases.store("outputs", key="uuid") as outputs:
        documents = outputs.query(
            {
                "metadata.campaign": campaign.name,
                "metadata.step": Step.PROPOSE.value,
                "output.stream": {"$exists": True},
            },
            [*(f"output.{name}" for name in fields), "output.proposals.candidate_id"],
        )
        samples = longest_samples(document["output"] for document in documents)
    tried: Counter[str] = Counter()
    rejections: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples.values():
        tried[sample["proposer"]] += sample["tried"]
        rejections[sample["proposer"]].update(sample["rejections"])
    for proposer, n in sorted(tried.items()):
        by = f" by {proposer}" if len(tried) > 1 else ""
        reasons = format_reasons(rejections[proposer]) or "none"
        out.print(f"Sampling{by}: {n} raw samples, rejected before any physics: {reasons}")
    for sample in samples.values():
        found = len(sample["proposals"])
        if found < sample["requested"]:
            note(
                f"{sample['composition']}: {found} of {sample['requested']} structures after "
                f"{sample['tried']} samples{_advice(sample)}."
            )


def _print_pre_relaxation(campaign: Campaign, databases: Databases) -> None:
    """Print how many steps a potential took before VASP, and how many were left to VASP."""
    from gan_htvs.results.builders.job_outputs import latest_gates

    fields = ["output.relaxed.pre_relaxation_steps", "output.relaxed.n_steps"]
    with databases.store("outputs", key="uuid") as outputs:
        gates = latest_gates(outputs, [campaign.name], fields).values()
    relaxed = [gate["output"].get("relaxed") or {} for gate in gates]
    steps = [each for each in relaxed if each.get("pre_relaxation_steps") is not None]
    if steps:
        before = mean(each["pre_relaxation_steps"] for each in steps)
        after = mean(each["n_steps"] for each in steps)
        out.print(
            f"Pre-relaxation: {before:.1f} steps of {campaign.engines.vasp.pre_relaxation} before "
            f"{after:.1f} ionic steps of VASP (mean of {len(steps)})"
        )


def _advice(sample: Mapping[str, Any]) -> str:
    """Return what can be done about a sample that is too short."""
    if sample["exhausted"]:
        return f"; {sample['proposer']} has no more"
    train = "train longer or " if sample["proposer"] == "gan" else ""
    return f" by {sample['proposer']}; {train}raise sampling.max_tries_per_structure"
