"""Estimate the number of jobs of a campaign and their wall time."""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass
from math import ceil, inf
from operator import attrgetter
from statistics import mean
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pymatgen.core import Lattice, Structure

from flows.routing import jobs_of
from gan_htvs.campaign.routing import Category
from gan_htvs.core.candidate import Ending, Origin, Proposal, RelaxationResult, RelaxedStructure
from gan_htvs.core.properties import BAND_GAP
from gan_htvs.core.stages import REFERENCE_PHASE, Stage, Step
from gan_htvs.results.funnel import (
    PUBLISHED_GENERATED,
    PUBLISHED_METASTABLE,
    PUBLISHED_SOURCE,
    PUBLISHED_SYNTHESIZABLE,
)
from gan_htvs.thermodynamics.reference_sources.campaign_phases import phases_of
from launchers.console.quantities import counted
from launchers.launchpad.registry import submissions
from launchers.launchpad.units import CHUNK, CampaignUnits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from jobflow import Job

    from gan_htvs.campaign.model import Campaign
    from launchers.launchpad.database import Databases

MIN_CANDIDATES = 50
"""Minimum number of candidates for a share of survivors or of band gaps."""

MAX_LAUNCHES = 200
"""Number of most recent jobs of a step that enter a mean wall time."""

ATOM_SPACING = 2.5
"""Atom spacing in the structure that represents all structures of a composition, A."""

MEASURED_SOURCE = "docs/status.md"
MEASURED: dict[tuple[Step, object], float] = {
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

PRESCREEN_SECONDS = {("chgnet",): 2.6, ("chgnet", "sevennet-0"): 3.1}
"""Mean seconds per structure of a batch on one core, by relaxing and confirming potential,
including structures that are rejected before relaxation; see docs/prescreen.md."""

TRAINING_SECONDS_PER_STEP = {"paper": 0.64, "authors": 0.64, "tuned": 0.094}
"""Seconds per generator step of training on one core in float32, by preset (docs/generator.md:
0.643 s; docs/model-card.md: 566 s for 6,000 steps). A GPU is faster."""


class Share(NamedTuple):
    """A fraction of the structures and its source."""

    n: int
    total: int
    where: str

    @property
    def value(self) -> float:
        """The fraction, between 0 and 1."""
        return self.n / self.total

    def __str__(self) -> str:
        return f"{self.n:,} of {self.total:,} in {self.where}"


@dataclass(frozen=True)
class Estimate:
    """Estimate of the jobs of one step and category.

    Attributes
    ----------
    step
        Step of the jobs.
    category
        Worker category of the jobs.
    n_jobs
        Expected number of jobs.
    n_source
        Source of that number, unless it is counted.
    seconds
        Mean wall time of one job; None: unknown.
    source
        Source of the wall time.
    """

    step: Step
    category: Category
    n_jobs: float
    n_source: str
    seconds: float | None
    source: str

    @property
    def hours(self) -> float | None:
        """Total wall time of the jobs in sequence; None: unknown."""
        return None if self.seconds is None else self.n_jobs * self.seconds / 3600


def estimate(campaign: Campaign, databases: Databases) -> list[Estimate]:
    """Estimate the jobs of a campaign, in the order of the funnel.

    The estimate covers the whole campaign. It assumes that the proposers generate all requested
    structures and that no job fails. References and trained generators that are already stored are
    not counted.
    """
    gaps, survivors = _gap_share(campaign, databases), _survivor_share(campaign, databases)
    n_references = sum(
        phase.pinned_energy_per_atom is None or phase.published_energy_per_atom is not None
        for phase in phases_of(campaign)
    )
    units = CampaignUnits(campaign)
    stored = databases.stored(units.shared)
    flows = units.shared | units.trainings | units.compositions
    parts = [(jobs_of(flow), 1.0, "") for key, flow in flows.items() if key not in stored]
    n_compositions = len(campaign.target_counts)
    for candidate_jobs, gap_jobs in _evaluations(campaign, units):
        n_structures = campaign.n_structures // n_compositions
        n_survivors = n_structures * survivors.value
        n_gaps = n_structures * gaps.value + n_references / n_compositions
        parts += [
            (candidate_jobs, n_survivors, f"survivors: {survivors}" if campaign.prescreen else ""),
            (gap_jobs, n_gaps, f"reference phases, and near the hull: {gaps}"),
        ]
    counts: defaultdict[tuple[Step, Category], float] = defaultdict(float)
    sources: dict[tuple[Step, Category], str] = {}
    for jobs, n, source in parts:
        for job in jobs:
            category = Category(job.config.manager_config["_category"])
            kind = Step(job.metadata["step"]), category
            counts[kind] += n
            sources[kind] = source
    n_candidates = campaign.n_structures * survivors.value + n_references
    n_workflows = len(flows) + ceil(n_candidates / CHUNK)
    counts[Step.RELEASE, campaign.routing.other] += n_workflows
    counts[Step.GATE, campaign.routing.other] += n_references
    campaigns = submissions(databases)
    kinds = sorted(counts.items(), key=lambda item: (list(Step).index(item[0][0]), item[0][1]))
    return [
        Estimate(*kind, n, sources.get(kind, ""), *_seconds(*kind, campaign, campaigns, databases))
        for kind, n in kinds
    ]


def _evaluations(campaign: Campaign, units: CampaignUnits) -> Iterator[tuple[list[Job], list[Job]]]:
    """Yield the energy jobs and the band gap jobs of one structure per composition.

    The number of jobs depends only on the elements.
    """
    relaxes = campaign.prescreen is None or not campaign.prescreen.decides_energy(campaign.engines)
    level_of_theory = "none" if relaxes else units.flows.level_of_theory
    has_gaps = campaign.computes_gaps
    for counts in campaign.target_counts:
        species = np.repeat(campaign.chemical_system.elements, counts)
        n = len(species)
        sites = [(i / n, 0.5 * (i % 2), 0) for i in range(n)]
        lattice = Lattice.orthorhombic(n * ATOM_SPACING, 2 * ATOM_SPACING, ATOM_SPACING)
        structure = Structure(lattice, species, sites)
        origin = Origin(proposer=REFERENCE_PHASE, requested_composition=structure.formula, index=0)
        relaxed = RelaxedStructure(
            structure=structure,
            energy_per_atom=0,
            level_of_theory=level_of_theory,
            converged=True,
        )
        proposal = Proposal(
            candidate_id=structure.formula,
            structure=structure,
            origin=origin,
            relaxation=RelaxationResult(ending=Ending.CONVERGED, relaxed=relaxed),
        )
        with warnings.catch_warnings(action="ignore"):  # atomate2 warns about POTCARs
            candidates = units.flows.candidates([proposal])
            gap_jobs = jobs_of(units.flows.band_gap(relaxed)) if has_gaps else []
        yield jobs_of(candidates), gap_jobs


def _seconds(
    step: Step,
    category: Category,
    campaign: Campaign,
    campaigns: Iterable[tuple[Campaign, dict[str, Any]]],
    databases: Databases,
) -> tuple[float | None, str]:
    """Return the mean wall time of jobs and its source.

    ``campaigns`` are all campaigns in the database with their submissions.
    """
    engine = _engine(step, category, campaign)
    owners = [
        owner
        for other, submission in campaigns
        if _engine(step, category, other) == engine
        for owner in submission.get("owners", ())
    ]
    launchpad = databases.launchpad()
    jobs = launchpad.fireworks.find(
        {
            "spec.campaign": {"$in": owners},
            "spec.step": step.value,
            "spec._category": category.value,
            "state": "COMPLETED",
        },
        ["launches"],
    )
    latest = [job["launches"][-1] for job in jobs.sort("fw_id", -1).limit(MAX_LAUNCHES)]
    launches = launchpad.launches.find({"launch_id": {"$in": latest}}, ["runtime_secs"])
    if seconds := [launch["runtime_secs"] for launch in launches]:
        return mean(seconds), f"mean of {counted(len(seconds), 'job')} here"
    measured = _measured_seconds(step, engine)
    return measured, "not measured yet" if measured is None else MEASURED_SOURCE


def _engine(step: Step, category: Category, campaign: Campaign) -> Any:
    """Return the settings that determine the wall time of jobs."""
    engines = campaign.engines
    match step:
        case Step.RELAX | Step.STATIC:
            by_vasp = engines.energy.name == "vasp" and category is campaign.routing.dft
            return engines.energy.name if by_vasp else engines.potential.name
        case Step.HYBRID | Step.BAND_GAP:
            return engines.band_gap.name
        case Step.PRESCREEN if campaign.prescreen is not None:
            names = tuple(potential.name for potential in campaign.prescreen.potentials(engines))
            sampling = campaign.sampling
            n_structures = ceil(sampling.structures_per_composition / campaign.generator.rounds)
            return names, n_structures / ceil(n_structures / campaign.sampling.batch_size)
        case Step.TRAIN if campaign.generator.checkpoint is None or campaign.generator.rounds > 1:
            return campaign.generator
    return None


def _measured_seconds(step: Step, engine: Any) -> float | None:
    """Return the wall time of one job from the documentation, s; None: not measured.

    ``engine`` are the settings of :func:`_engine`.
    """
    match step, engine:
        case Step.PRESCREEN, (potentials, batch_size):
            per_structure = PRESCREEN_SECONDS.get(potentials)
            return per_structure and per_structure * batch_size
        case Step.TRAIN, generator if generator is not None:
            first = generator.max_steps if generator.checkpoint is None else 0
            steps = (first, *[generator.round_steps] * (generator.rounds - 1))
            per_step = TRAINING_SECONDS_PER_STEP[generator.preset]
            longest = generator.max_seconds or inf
            return mean(min(n * per_step, longest) for n in steps)
        case _:
            return MEASURED.get((step, engine))


def _gap_share(campaign: Campaign, databases: Databases) -> Share:
    """Return the share of structures with a band gap calculation."""
    settings = attrgetter("engines.energy.name", "stages")
    evaluated = {"stage": {"$ne": Stage.GENERATED.value}}
    selected = {"stage": {"$in": campaign.funnel.names_from(BAND_GAP)}}
    return _share(campaign, databases, settings, (evaluated, selected), PUBLISHED_SYNTHESIZABLE)


def _survivor_share(campaign: Campaign, databases: Databases) -> Share:
    """Return the share of structures that survive the prescreen, if there is one."""
    if campaign.prescreen is None:
        return Share(1, 1, "this campaign")
    settings = attrgetter("prescreen", "engines", "prescreen_window")
    prescreened = {"prescreen": {"$ne": None}}
    selected = {"prescreen.rejected_at": None}
    return _share(campaign, databases, settings, (prescreened, selected), PUBLISHED_METASTABLE)


def _share(
    campaign: Campaign,
    databases: Databases,
    settings_of: Callable[[Campaign], object],
    queries: tuple[dict[str, Any], dict[str, Any]],
    n_published: int,
) -> Share:
    """Return the share of selected candidates; the published one if the database has too few.

    Counts generated candidates of all campaigns with the same settings. ``queries`` select the
    candidates of the total, and the selected candidates among them.
    """
    settings = settings_of(campaign)
    names = [other.name for other, _ in submissions(databases) if settings_of(other) == settings]
    generated = {"campaign": {"$in": names}, "origin.proposer": {"$ne": REFERENCE_PHASE}}
    candidates = databases.launchpad().db["candidates"]
    population, selected = queries
    n_all = candidates.count_documents(generated | population)
    n_selected = candidates.count_documents({"$and": [generated, population, selected]})
    if n_all < MIN_CANDIDATES:
        return Share(n_published, PUBLISHED_GENERATED, PUBLISHED_SOURCE)
    return Share(n_selected, n_all, "this database")
