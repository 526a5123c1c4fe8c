"""What a campaign will take: how many jobs of each kind, and how long they run."""

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

from flows.campaign import CampaignUnits
from flows.evaluate import EvaluateMaker, band_gap_jobs
from flows.prescreen import reference_jobs
from flows.references import known_phases, published_phases, reference_flow
from flows.sample import shard_job, shards
from flows.train import training_job
from gan_htvs.candidate import KNOWN_PHASE, Origin, Proposal, Relaxed, Stage, Step
from gan_htvs.engines import VASP_ENGINES
from gan_htvs.funnel import (
    PUBLISHED_GENERATED,
    PUBLISHED_METASTABLE,
    PUBLISHED_SOURCE,
    PUBLISHED_SYNTHESIZABLE,
)
from gan_htvs.routing import Category
from launchers.console import note, out
from launchers.registry import submissions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from jobflow import Job

    from gan_htvs.campaign import Campaign
    from gan_htvs.engines import DescentSettings
    from launchers.database import Databases
    from launchers.launchpad import CampaignLaunchPad

ENOUGH_VERDICTS = 50
"""Fewer verdicts tell no share of structures that survive the prescreen or earn a band gap."""

LAUNCHES_LOOKED_AT = 200
"""A mean is one over so many of the latest jobs of a kind."""

ATOM_SPACING = 2.5
"""Of the grid of atoms that stands for any structure of a composition, in angstrom."""

MEASURED_SOURCE = "the demo, one core (docs/status.md)"
MEASURED = {
    (Step.RELAX, "chgnet"): 6.0,
    (Step.STATIC, "chgnet"): 0.5,
    (Step.TRAIN, None): 1.3,  # of a checkpoint that is there
    (Step.REFERENCES, None): 1.7,
    (Step.PROPOSE, None): 0.8,
    (Step.GATE, None): 0.3,
    (Step.RELEASE, None): 2.1,
    (Step.BAND_GAP, "gpaw"): 60.4,
}
"""Seconds of one job by step and engine, if that matters, where this database has seen none."""

PRESCREEN_SOURCE = "docs/prescreen.md"
PRESCREEN_SECONDS = {"chgnet": 2.6}
CONFIRMATION_SECONDS = {"sevennet-0": 0.5}
"""Of one structure of a pack on one core, by potential, in the mean over those that leave before;
docs/prescreen.md tells how it was measured."""

TRAINING_SECONDS_PER_STEP = {"paper": 0.64, "authors": 0.64, "tuned": 0.094}
"""Of a training on one core in float32, by preset, per generator step (docs/generator.md: 0.643 s;
docs/model-card.md: 566 s for 6,000 steps). A GPU is faster."""


class Kind(NamedTuple):
    """Jobs that are alike."""

    step: Step
    category: Category


@dataclass(frozen=True)
class Estimate:
    """What the jobs of one kind will take.

    Attributes
    ----------
    kind
        Step and category.
    n_jobs
        Expected.
    n_source
        Where that number comes from, if it is not counted.
    seconds
        Mean wall time of one; None: not known.
    source
        Where that comes from.
    """

    kind: Kind
    n_jobs: float
    n_source: str
    seconds: float | None
    source: str

    @property
    def hours(self) -> float | None:
        """Wall time of all of them, one after the other; None: not known."""
        return None if self.seconds is None else self.n_jobs * self.seconds / 3600


def estimate(campaign: Campaign, databases: Databases) -> list[Estimate]:
    """Estimate what a campaign takes, in the order of the funnel.

    It is the whole campaign, as if the proposers found all structures and none failed; only
    references and training are left out where they are stored already.
    """
    share, share_source = _gap_share(campaign, databases)
    survivors, survivors_source = survivor_share(campaign, databases)
    once, per_structure, gaps = _count(campaign, databases)
    n_known = _n_known_phases(campaign)
    counts: defaultdict[Kind, float] = defaultdict(float)
    counts.update(once)
    for kind, n in per_structure.items():
        counts[kind] += n * survivors
    for kind, n in gaps.items():
        counts[kind] += n * share + n_known
    n_sources = dict.fromkeys(per_structure, survivors_source)
    n_sources |= dict.fromkeys(gaps, f"known phases, and {share_source}")
    others = submissions(databases)
    rows = []
    for kind in sorted(counts, key=lambda kind: (list(Step).index(kind.step), kind.category)):
        seconds, source = _seconds(kind, campaign, others, databases.launchpad())
        rows.append(Estimate(kind, counts[kind], n_sources.get(kind, ""), seconds, source))
    return rows


def print_estimate(rows: Sequence[Estimate], cores_per_node: int) -> None:
    """Print the estimate and its totals.

    Jobs of category ``cpu`` take a core each and fill a node; of any other category a node each.
    """
    table = Table(title="What it takes", title_justify="left", box=box.SIMPLE_HEAD)
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
        note("VASP is not estimated: `gan-htvs rehearse CAMPAIGN.YAML` counts what it will do.")


def _total(rows: Sequence[Estimate], category: Category, cores_per_node: int) -> str:
    hours = sum(row.hours for row in rows if row.hours is not None)
    told = f"{hours:,.1f} node-hours, one job on a node at a time"
    if category is Category.CPU:
        nodes = f"{hours / cores_per_node:,.1f} node-hours, a job on each of {cores_per_node} cores"
        told = f"{hours:,.1f} core-hours, or {nodes}"
    unknown = [row.kind.step for row in rows if row.hours is None]
    return f"{told}; besides {', '.join(unknown)}, not measured yet" if unknown else told


def _count(
    campaign: Campaign, databases: Databases
) -> tuple[Counter[Kind], Counter[Kind], Counter[Kind]]:
    """Count jobs: those that are made once, those of all structures, and their band gaps."""
    units = CampaignUnits(campaign)
    kinds = _kinds(_shared_jobs(campaign, units, databases))
    kinds += _kinds(
        shard_job(campaign, shard, units.training, units.references) for shard in shards(campaign)
    )
    kinds[Kind(Step.PROPOSE, campaign.routing.other)] += 1  # of the known phases
    relaxes = True
    if campaign.prescreen is not None:
        kinds[Kind(Step.PRESCREEN, campaign.routing.potential)] += _n_packs(campaign)
        relaxes = not campaign.prescreen.decides_energy(campaign.engines)
    release = Kind(Step.RELEASE, campaign.routing.other)
    kinds[release] += units.n_shards + len(units.shared)
    kinds[Kind(Step.GATE, campaign.routing.other)] += _n_known_phases(campaign)

    evaluate = EvaluateMaker(campaign, units.references)
    n_each = campaign.n_structures // len(campaign.target_counts)
    per_structure: Counter[Kind] = Counter()
    gaps: Counter[Kind] = Counter()
    for counts in campaign.target_counts:
        formula = campaign.chemical_system.formula(counts)
        structure = _grid(dict(zip(campaign.chemical_system.elements, counts, strict=True)))
        origin = Origin(proposer=KNOWN_PHASE, requested_composition=formula, index=0)
        proposal = Proposal(candidate_id=formula, structure=structure, origin=origin)
        for kind, n in _kinds(evaluate.make(proposal).jobs).items():
            if relaxes or kind.step is Step.GATE:
                per_structure[kind] += n * n_each
        relaxed = Relaxed(
            structure=structure, energy_per_atom=0, level_of_theory="none", converged=True
        )
        gate = evaluate.gate_uuid(proposal)
        with warnings.catch_warnings():  # of atomate2: POTCARs that we choose
            warnings.simplefilter("ignore")
            gap_jobs = band_gap_jobs(campaign, formula, relaxed, gate)
        for kind, n in _kinds(gap_jobs).items():
            gaps[kind] += n * n_each
    return kinds, per_structure, gaps


def _shared_jobs(campaign: Campaign, units: CampaignUnits, databases: Databases) -> list[Job]:
    """Make the jobs of references and training whose outputs are not stored."""
    stored = databases.stored({*units.reference_jobs, *units.shared})
    jobs: list[Job] = []
    if units.references not in stored:
        jobs += reference_flow(campaign, done=stored).jobs
    by_potentials = reference_jobs(campaign, units.references)
    jobs += [each for each in by_potentials if each.uuid not in stored]
    if units.training and units.training not in stored:
        jobs.append(training_job(campaign))
    return jobs


def _n_known_phases(campaign: Campaign) -> int:
    """Count the known phases, which go through the gates, too."""
    return len(known_phases(campaign.for_references)) + len(published_phases(campaign))


def _kinds(jobs: Iterable[Job]) -> Counter[Kind]:
    return Counter(
        Kind(Step(job.metadata["step"]), Category(job.config.manager_config["_category"]))
        for job in jobs
    )


def _grid(atoms: dict[str, int]) -> Structure:
    """Put atoms on a simple cubic grid: all that the number of jobs depends on is what they are."""
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
    """Give the mean wall time of a kind of job, and where it comes from.

    ``others`` are the campaigns of the database and how they were submitted.
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
    if kind.step is Step.PRESCREEN and (each := _prescreen_seconds(campaign)) is not None:
        return each * _pack_size(campaign), PRESCREEN_SOURCE
    measured = MEASURED.get((kind.step, engine))
    return measured, MEASURED_SOURCE if measured is not None else "not measured yet"


def _engine(kind: Kind, campaign: Campaign) -> str | None:
    """Tell what decides how long a job of this kind takes, besides its structure."""
    engines, generator = campaign.engines, campaign.generator
    match kind.step:
        case Step.RELAX | Step.STATIC:
            by_vasp = engines.energy.name in VASP_ENGINES and kind.category is campaign.routing.dft
            return engines.energy.name if by_vasp else engines.potential.name
        case Step.HYBRID | Step.BAND_GAP:
            return engines.band_gap.name
        case Step.PRESCREEN if campaign.prescreen is not None:
            by = [each and each.name for each in _potentials(campaign)]
            return f"{by}, {_pack_size(campaign):g} structures"
        case Step.TRAIN if generator.checkpoint is None:
            return f"{generator.preset}, {generator.max_steps} steps, {generator.overrides}"
    return None


def _potentials(campaign: Campaign) -> tuple[DescentSettings, DescentSettings | None]:
    """Give the potentials of the prescreen."""
    settings, engines = campaign.prescreening, campaign.engines
    return settings.relaxing(engines), settings.confirming(engines)


def _pack_size(campaign: Campaign) -> float:
    """Give the mean number of structures of a prescreen job."""
    return campaign.n_structures / _n_packs(campaign)


def _n_packs(campaign: Campaign) -> int:
    """Count the prescreen jobs: one of each shard, unless that is a long list of its own."""
    size = campaign.sampling.shard_size
    return sum(ceil(shard.n_structures / size) for shard in shards(campaign))


def _prescreen_seconds(campaign: Campaign) -> float | None:
    """Give the seconds of one structure of a pack on one core; None: not known."""
    first, second = _potentials(campaign)
    relaxing = PRESCREEN_SECONDS.get(first.name)
    confirming = CONFIRMATION_SECONDS.get(second.name) if second else 0.0
    return None if relaxing is None or confirming is None else relaxing + confirming


def _training_seconds(campaign: Campaign) -> float:
    generator = campaign.generator
    seconds = generator.max_steps * TRAINING_SECONDS_PER_STEP[generator.preset]
    return min(seconds, generator.max_seconds or seconds)


def _gap_share(campaign: Campaign, databases: Databases) -> tuple[float, str]:
    """Give the share of structures that earn a band gap, and where it comes from."""
    alike = _alike(campaign, databases, lambda each: (each.engines.energy.name, each.thresholds))
    candidates = databases.launchpad().db["candidates"]
    judged = candidates.count_documents(alike | {"stage": {"$ne": Stage.GENERATED.value}})
    if judged >= ENOUGH_VERDICTS:
        earned = [Stage.POURBAIX_STABLE.value, Stage.PHOTOANODE.value]
        n = candidates.count_documents(alike | {"stage": {"$in": earned}})
        return n / judged, f"{n} of {judged} candidates here earn a gap"
    n, total = PUBLISHED_SYNTHESIZABLE, PUBLISHED_GENERATED
    return n / total, f"{n} of {total:,} near the hull in {PUBLISHED_SOURCE}"


def survivor_share(campaign: Campaign, databases: Databases) -> tuple[float, str]:
    """Give the share of structures that survive the prescreen, and where it comes from."""
    if campaign.prescreen is None:
        return 1.0, ""
    alike = _alike(
        campaign, databases, lambda each: (each.prescreen, each.engines, each.thresholds.metastable)
    )
    candidates = databases.launchpad().db["candidates"]
    sifted = alike | {"prescreen": {"$ne": None}}
    total = candidates.count_documents(sifted)
    if total >= ENOUGH_VERDICTS:
        n = candidates.count_documents(sifted | {"prescreen.hurdle": None})
        return n / total, f"{n} of {total} survived the prescreen here"
    n, total = PUBLISHED_METASTABLE, PUBLISHED_GENERATED
    return n / total, f"{n:,} of {total:,} metastable in {PUBLISHED_SOURCE}"


def _alike(
    campaign: Campaign, databases: Databases, traits: Callable[[Campaign], object]
) -> dict[str, object]:
    """Ask for the generated candidates of all campaigns with the same traits."""
    names = [other.name for other, _ in submissions(databases) if traits(other) == traits(campaign)]
    return {"campaign": {"$in": names}, "origin.proposer": {"$ne": KNOWN_PHASE}}
