"""Estimate the number of jobs of a campaign and their wall time."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass
from math import ceil
from statistics import mean
from typing import TYPE_CHECKING, Any, NamedTuple

from pymatgen.core import Lattice, Structure
from rich import box
from rich.table import Table

from flows.routing import jobs_of
from gan_htvs.candidate import KNOWN_PHASE, Origin, Proposal, RelaxedStructure, Stage, Step
from gan_htvs.funnel import (
    PUBLISHED_GENERATED,
    PUBLISHED_METASTABLE,
    PUBLISHED_SOURCE,
    PUBLISHED_SYNTHESIZABLE,
)
from gan_htvs.prescreen.documents import Survivor
from gan_htvs.routing import Category
from gan_htvs.thermodynamics.references import phases_of
from launchers.console import note, out
from launchers.registry import submissions
from launchers.units import CHUNK, CampaignUnits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from jobflow import Job

    from gan_htvs.campaign import Campaign
    from gan_htvs.engines import PotentialSettings
    from launchers.database import Databases
    from launchers.launchpad import CampaignLaunchPad

ENOUGH_VERDICTS = 50
"""Minimum number of verdicts for a share of survivors or of band gaps."""

LAUNCHES_LOOKED_AT = 200
"""Number of the latest jobs of a kind in a mean."""

ATOM_SPACING = 2.5
"""Spacing of the grid of atoms that represents all structures of a composition, A."""

MEASURED_SOURCE = "the demo, two cores (docs/status.md)"
MEASURED = {
    (Step.RELAX, "chgnet"): 6.0,
    (Step.TRAIN, None): 1.2,  # loads an existing checkpoint
    (Step.REFERENCES, None): 10.4,
    (Step.PROPOSE, None): 0.1,
    (Step.SELECT, None): 0.1,
    (Step.GATE, None): 0.1,
    (Step.RELEASE, None): 0.4,
    (Step.BAND_GAP, "gpaw"): 11.7,
}
"""Seconds of one job by step and engine, used if this database has no such jobs."""

PRESCREEN_SOURCE = "docs/prescreen.md"
PRESCREEN_SECONDS = {"chgnet": 2.6}
CONFIRMATION_SECONDS = {"sevennet-0": 0.5}
"""Mean seconds of one structure of a batch on one core, by potential, including structures that are
rejected before; see docs/prescreen.md."""

TRAINING_SECONDS_PER_STEP = {"paper": 0.64, "authors": 0.64, "tuned": 0.094}
"""Seconds per generator step of a training on one core in float32, by preset (docs/generator.md:
0.643 s; docs/model-card.md: 566 s for 6,000 steps). A GPU is faster."""


class Kind(NamedTuple):
    """Jobs of one step and category."""

    step: Step
    category: Category


@dataclass(frozen=True)
class Estimate:
    """Estimate of the jobs of one kind.

    Attributes
    ----------
    kind
        Step and category.
    n_jobs
        Expected number of jobs.
    n_source
        Source of that number, unless it is counted.
    seconds
        Mean wall time of one job; None: unknown.
    source
        Source of the wall time.
    """

    kind: Kind
    n_jobs: float
    n_source: str
    seconds: float | None
    source: str

    @property
    def hours(self) -> float | None:
        """Total wall time of the jobs, one after another; None: unknown."""
        return None if self.seconds is None else self.n_jobs * self.seconds / 3600


def estimate(campaign: Campaign, databases: Databases) -> list[Estimate]:
    """Estimate the jobs of a campaign, in the order of the funnel.

    The estimate covers the whole campaign and assumes that the proposers find all structures and
    that no job fails. Stored references and trainings are not counted.
    """
    share, share_source = _gap_share(campaign, databases)
    survivors, survivors_source = survivor_share(campaign, databases)
    once, per_structure, gaps = _count(campaign, databases)
    n_references = _n_reference_phases(campaign)
    counts: defaultdict[Kind, float] = defaultdict(float)
    counts.update(once)
    for kind, n in per_structure.items():
        counts[kind] += n * survivors
    for kind, n in gaps.items():
        counts[kind] += n * share + n_references
    n_sources = dict.fromkeys(per_structure, survivors_source)
    n_sources |= dict.fromkeys(gaps, f"reference phases, and {share_source}")
    others = submissions(databases)
    rows = []
    for kind in sorted(counts, key=lambda kind: (list(Step).index(kind.step), kind.category)):
        seconds, source = _seconds(kind, campaign, others, databases.launchpad())
        rows.append(Estimate(kind, counts[kind], n_sources.get(kind, ""), seconds, source))
    return rows


def print_estimate(rows: Sequence[Estimate], cores_per_node: int) -> None:
    """Print the estimate and its totals.

    A job of category ``cpu`` takes one core, a job of any other category one node.
    """
    table = Table(title="Estimate", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("step")
    table.add_column("category")
    for name in ("jobs", "s each", "hours"):
        table.add_column(name, justify="right")
    table.add_column("from", overflow="fold")
    for row in rows:
        sources = "; ".join(filter(None, (row.source, row.n_source and f"jobs: {row.n_source}")))
        table.add_row(
            row.kind.step,
            row.kind.category,
            f"{row.n_jobs:,.0f}",
            "-" if row.seconds is None else f"{row.seconds:,.1f}",
            "-" if row.hours is None else f"{row.hours:,.2f}",
            sources,
        )
    out.print(table)
    for category in Category:
        if of_category := [row for row in rows if row.kind.category is category]:
            out.print(f"{category}: {_total(of_category, category, cores_per_node)}")
    on_nodes = [row for row in rows if row.kind.category in (Category.DFT, Category.HSE)]
    if any(row.seconds is None for row in on_nodes):
        note("VASP is not estimated: this database has no finished VASP job.")


def _total(rows: Sequence[Estimate], category: Category, cores_per_node: int) -> str:
    hours = sum(row.hours for row in rows if row.hours is not None)
    total = f"{hours:,.1f} node-hours, one job on a node at a time"
    if category is Category.CPU:
        nodes = f"{hours / cores_per_node:,.1f} node-hours, a job on each of {cores_per_node} cores"
        total = f"{hours:,.1f} core-hours, or {nodes}"
    unknown = [row.kind.step for row in rows if row.hours is None]
    return f"{total}; without {', '.join(unknown)}, not measured yet" if unknown else total


def _count(
    campaign: Campaign, databases: Databases
) -> tuple[Counter[Kind], Counter[Kind], Counter[Kind]]:
    """Count the jobs of the campaign, of all its structures, and of their band gaps."""
    units = CampaignUnits(campaign)
    flows = units.flows
    stored = databases.stored(units.shared)
    kinds = Counter[Kind]()
    for key, part in units.shared.items():
        if key not in stored:
            kinds += _kinds(jobs_of(part))
    for flow in units.compositions.values():
        kinds += _kinds(jobs_of(flow))
    n_references = _n_reference_phases(campaign)
    n_candidates = campaign.n_structures * survivor_share(campaign, databases)[0] + n_references
    release = Kind(Step.RELEASE, campaign.routing.other)
    kinds[release] += len(units.compositions) + len(units.shared) + ceil(n_candidates / CHUNK)
    kinds[Kind(Step.GATE, campaign.routing.other)] += n_references

    relaxes = campaign.prescreen is None or not campaign.prescreen.decides_energy(campaign.engines)
    n_each = campaign.n_structures // len(campaign.target_counts)
    per_structure: Counter[Kind] = Counter()
    gaps: Counter[Kind] = Counter()
    for counts in campaign.target_counts:
        formula = campaign.chemical_system.formula(counts)
        structure = _grid(dict(zip(campaign.chemical_system.elements, counts, strict=True)))
        origin = Origin(proposer=KNOWN_PHASE, requested_composition=formula, index=0)
        proposal = Proposal(candidate_id=formula, structure=structure, origin=origin)
        relaxed = RelaxedStructure(
            structure=structure,
            energy_per_atom=0,
            level_of_theory="none" if relaxes else flows.level_of_theory,
            converged=True,
        )
        with warnings.catch_warnings():  # atomate2 warns of the choice of POTCARs
            warnings.simplefilter("ignore")
            survivor = Survivor(proposal=proposal, relaxed=relaxed)
            candidate_jobs = jobs_of(flows.candidates([survivor]))
            gap_jobs = [] if computes_no_gaps(campaign) else jobs_of(flows.band_gap(relaxed))
        for kind, n in _kinds(candidate_jobs).items():
            per_structure[kind] += n * n_each
        for kind, n in _kinds(gap_jobs).items():
            gaps[kind] += n * n_each
    return kinds, per_structure, gaps


def computes_no_gaps(campaign: Campaign) -> bool:
    """Return whether band gaps are switched off."""
    return campaign.engines.band_gap.name == "none"


def _n_reference_phases(campaign: Campaign) -> int:
    """Return the number of reference phases that are evaluated like candidates."""
    phases = phases_of(campaign)
    return sum(
        phase.pinned_energy_per_atom is None or phase.published_energy_per_atom is not None
        for phase in phases
    )


def _kinds(jobs: Iterable[Job]) -> Counter[Kind]:
    return Counter(
        Kind(Step(job.metadata["step"]), Category(job.config.manager_config["_category"]))
        for job in jobs
    )


def _grid(atoms: dict[str, int]) -> Structure:
    """Return atoms on a simple cubic grid; the number of jobs depends only on the elements."""
    species = [symbol for symbol, n in atoms.items() for _ in range(n)]
    n = len(species)
    sites = [(i / n, 0.5 * (i % 2), 0) for i in range(n)]
    lattice = Lattice.orthorhombic(n * ATOM_SPACING, 2 * ATOM_SPACING, ATOM_SPACING)
    return Structure(lattice, species, sites)


def _seconds(
    kind: Kind,
    campaign: Campaign,
    others: Iterable[tuple[Campaign, dict[str, Any]]],
    launchpad: CampaignLaunchPad,
) -> tuple[float | None, str]:
    """Return the mean wall time of a kind of job and its source.

    ``others`` are the campaigns of the database with their submissions.
    """
    engine = _engine(kind, campaign)
    owners = [
        owner
        for other, submission in others
        if _engine(kind, other) == engine
        for owner in submission.get("owners", ())
    ]
    jobs = launchpad.fireworks.find(
        {
            "spec.campaign": {"$in": owners},
            "spec.step": kind.step.value,
            "spec._category": kind.category.value,
            "state": "COMPLETED",
        },
        ["launches"],
    )
    latest = [job["launches"][-1] for job in jobs.sort("fw_id", -1).limit(LAUNCHES_LOOKED_AT)]
    launches = launchpad.launches.find({"launch_id": {"$in": latest}}, ["runtime_secs"])
    if seconds := [launch["runtime_secs"] for launch in launches]:
        return mean(seconds), f"mean of {len(seconds)} here"
    if kind.step is Step.TRAIN and engine is not None:
        return _training_seconds(campaign), "docs/generator.md, docs/model-card.md"
    if kind.step is Step.PRESCREEN and (per_structure := _prescreen_seconds(campaign)) is not None:
        return per_structure * _batch_size(campaign), PRESCREEN_SOURCE
    measured = MEASURED.get((kind.step, engine))
    return measured, MEASURED_SOURCE if measured is not None else "not measured yet"


def _engine(kind: Kind, campaign: Campaign) -> str | None:
    """Return the settings on which the wall time of a job of this kind depends."""
    engines, generator = campaign.engines, campaign.generator
    match kind.step:
        case Step.RELAX | Step.STATIC:
            by_vasp = engines.energy.name == "vasp" and kind.category is campaign.routing.dft
            return engines.energy.name if by_vasp else engines.potential.name
        case Step.HYBRID | Step.BAND_GAP:
            return engines.band_gap.name
        case Step.PRESCREEN if campaign.prescreen is not None:
            by = [potential and potential.name for potential in _potentials(campaign)]
            return f"{by}, {_batch_size(campaign):g} structures"
        case Step.TRAIN if generator.checkpoint is None:
            return f"{generator.preset}, {generator.max_steps} steps, {generator.overrides}"
    return None


def _potentials(campaign: Campaign) -> tuple[PotentialSettings, PotentialSettings | None]:
    """Return the potentials of the prescreen."""
    settings, engines = campaign.prescreening, campaign.engines
    return settings.relaxing(engines), settings.confirming(engines)


def _batch_size(campaign: Campaign) -> float:
    """Return the mean number of structures of a prescreen job."""
    return campaign.n_structures / _n_batches(campaign)


def _n_batches(campaign: Campaign) -> int:
    """Return the number of prescreen jobs, one for each batch."""
    sampling = campaign.sampling
    n_batches = ceil(sampling.structures_per_composition / sampling.batch_size)
    return n_batches * len(sampling.proposers) * len(campaign.target_counts)


def _prescreen_seconds(campaign: Campaign) -> float | None:
    """Return the seconds of one structure of a batch on one core; None: unknown."""
    first, second = _potentials(campaign)
    relaxing = PRESCREEN_SECONDS.get(first.name)
    confirming = CONFIRMATION_SECONDS.get(second.name) if second else 0.0
    return None if relaxing is None or confirming is None else relaxing + confirming


def _training_seconds(campaign: Campaign) -> float:
    generator = campaign.generator
    seconds = generator.max_steps * TRAINING_SECONDS_PER_STEP[generator.preset]
    return min(seconds, generator.max_seconds or seconds)


def _gap_share(campaign: Campaign, databases: Databases) -> tuple[float, str]:
    """Return the share of structures with a band gap calculation, and its source."""
    alike = _alike(campaign, databases, lambda other: (other.engines.energy.name, other.thresholds))
    candidates = databases.launchpad().db["candidates"]
    n_assessed = candidates.count_documents(alike | {"stage": {"$ne": Stage.GENERATED.value}})
    if n_assessed >= ENOUGH_VERDICTS:
        with_gap = [Stage.POURBAIX_STABLE.value, Stage.PHOTOANODE.value]
        n = candidates.count_documents(alike | {"stage": {"$in": with_gap}})
        return n / n_assessed, f"{n} of {n_assessed} candidates here need a gap"
    n, total = PUBLISHED_SYNTHESIZABLE, PUBLISHED_GENERATED
    return n / total, f"{n} of {total:,} near the hull in {PUBLISHED_SOURCE}"


def survivor_share(campaign: Campaign, databases: Databases) -> tuple[float, str]:
    """Return the share of structures that survive the prescreen, and its source."""
    if campaign.prescreen is None:
        return 1.0, ""
    alike = _alike(
        campaign,
        databases,
        lambda other: (other.prescreen, other.engines, other.thresholds.metastable),
    )
    candidates = databases.launchpad().db["candidates"]
    screened = alike | {"prescreen": {"$ne": None}}
    total = candidates.count_documents(screened)
    if total >= ENOUGH_VERDICTS:
        n = candidates.count_documents(screened | {"prescreen.rejected_at": None})
        return n / total, f"{n} of {total} survived the prescreen here"
    n, total = PUBLISHED_METASTABLE, PUBLISHED_GENERATED
    return n / total, f"{n:,} of {total:,} metastable in {PUBLISHED_SOURCE}"


def _alike(
    campaign: Campaign, databases: Databases, traits: Callable[[Campaign], object]
) -> dict[str, object]:
    """Return the criteria for generated candidates of all campaigns with the same traits."""
    names = [other.name for other, _ in submissions(databases) if traits(other) == traits(campaign)]
    return {"campaign": {"$in": names}, "origin.proposer": {"$ne": KNOWN_PHASE}}
