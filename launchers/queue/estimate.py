"""Estimate the number of jobs of a campaign and their wall time."""

from __future__ import annotations

import operator
import warnings
from collections import Counter
from dataclasses import dataclass
from math import ceil
from statistics import mean
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pymatgen.core import Lattice, Structure

from flows.routing import jobs_of
from gan_htvs.campaign.routing import Category
from gan_htvs.core.candidate import Origin, Proposal, RelaxedStructure
from gan_htvs.core.stages import REFERENCE_PHASE, Stage, Step
from gan_htvs.prescreen.documents import Survivor
from gan_htvs.results.funnel import (
    PUBLISHED_GENERATED,
    PUBLISHED_METASTABLE,
    PUBLISHED_SOURCE,
    PUBLISHED_SYNTHESIZABLE,
)
from gan_htvs.thermodynamics.references import phases_of
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
"""Number of most recent jobs of a kind that enter a mean wall time."""

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

PRESCREEN_SECONDS: dict[tuple[str, str | None], float] = {
    ("chgnet", None): 2.6,
    ("chgnet", "sevennet-0"): 3.1,
}
"""Mean seconds per structure of a batch on one core, by relaxing and confirming potential,
including structures that are rejected before relaxation; see docs/prescreen.md."""

TRAINING_SECONDS_PER_STEP = {"paper": 0.64, "authors": 0.64, "tuned": 0.094}
"""Seconds per generator step of training on one core in float32, by preset (docs/generator.md:
0.643 s; docs/model-card.md: 566 s for 6,000 steps). A GPU is faster."""


class Kind(NamedTuple):
    """Jobs of one step and category."""

    step: Step
    category: Category


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
        """Total wall time of the jobs in sequence; None: unknown."""
        return None if self.seconds is None else self.n_jobs * self.seconds / 3600


def estimate(campaign: Campaign, databases: Databases) -> list[Estimate]:
    """Estimate the jobs of a campaign, in the order of the funnel.

    The estimate covers the whole campaign. It assumes that the proposers generate all requested
    structures and that no job fails. References and trained generators that are already stored are
    not counted.
    """
    gaps = _gap_share(campaign, databases)
    survivors = _survivor_share(campaign, databases) if campaign.prescreen else None
    survival = survivors.value if survivors else 1.0
    n_references = sum(
        phase.pinned_energy_per_atom is None or phase.published_energy_per_atom is not None
        for phase in phases_of(campaign)
    )
    units = CampaignUnits(campaign)
    stored = databases.stored(units.shared)
    counts: Counter[Kind] = Counter()
    sources: dict[Kind, str] = {}

    def add(jobs: Iterable[Job], n: float, source: str = "") -> None:
        for job in jobs:
            category = Category(job.config.manager_config["_category"])
            kind = Kind(Step(job.metadata["step"]), category)
            counts[kind] += n  # type: ignore[assignment]
            sources[kind] = source

    for key, part in (units.shared | units.compositions).items():
        if key not in stored:
            add(jobs_of(part), 1)
    n_compositions = len(campaign.target_counts)
    for structure in _representatives(campaign):
        n_per_composition = campaign.n_structures // n_compositions
        candidate_jobs, gap_jobs = _jobs_of_candidate(structure, campaign, units)
        source = f"survivors: {survivors}" if survivors else ""
        add(candidate_jobs, n_per_composition * survival, source)
        n_gaps = n_per_composition * gaps.value + n_references / n_compositions
        add(gap_jobs, n_gaps, f"reference phases, and near the hull: {gaps}")
    n_candidates = campaign.n_structures * survival + n_references
    n_workflows = len(units.compositions) + len(units.shared) + ceil(n_candidates / CHUNK)
    counts[Kind(Step.RELEASE, campaign.routing.other)] += n_workflows
    counts[Kind(Step.GATE, campaign.routing.other)] += n_references
    campaigns = submissions(databases)
    kinds = sorted(counts, key=lambda kind: (list(Step).index(kind.step), kind.category))
    return [
        Estimate(
            kind,
            counts[kind],
            sources.get(kind, ""),
            *_seconds(kind, campaign, campaigns, databases),
        )
        for kind in kinds
    ]


def _representatives(campaign: Campaign) -> Iterator[Structure]:
    """Yield one structure per composition; the number of jobs depends only on the elements."""
    for counts in campaign.target_counts:
        species = np.repeat(campaign.chemical_system.elements, counts)
        n = len(species)
        sites = [(i / n, 0.5 * (i % 2), 0) for i in range(n)]
        lattice = Lattice.orthorhombic(n * ATOM_SPACING, 2 * ATOM_SPACING, ATOM_SPACING)
        yield Structure(lattice, species, sites)


def _jobs_of_candidate(
    structure: Structure, campaign: Campaign, units: CampaignUnits
) -> tuple[list[Job], list[Job]]:
    """Return the energy jobs and the band gap jobs of a structure."""
    origin = Origin(proposer=REFERENCE_PHASE, requested_composition=structure.formula, index=0)
    proposal = Proposal(candidate_id=structure.formula, structure=structure, origin=origin)
    relaxes = campaign.prescreen is None or not campaign.prescreen.decides_energy(campaign.engines)
    relaxed = RelaxedStructure(
        structure=structure,
        energy_per_atom=0,
        level_of_theory="none" if relaxes else units.flows.level_of_theory,
        converged=True,
    )
    has_gaps = campaign.engines.band_gap.name != "none"
    with warnings.catch_warnings():  # atomate2 warns about the choice of POTCARs
        warnings.simplefilter("ignore")
        candidates = units.flows.candidates([Survivor(proposal=proposal, relaxed=relaxed)])
        return jobs_of(candidates), jobs_of(units.flows.band_gap(relaxed)) if has_gaps else []


def _seconds(
    kind: Kind,
    campaign: Campaign,
    campaigns: Iterable[tuple[Campaign, dict[str, Any]]],
    databases: Databases,
) -> tuple[float | None, str]:
    """Return the mean wall time of a kind of job and its source.

    ``campaigns`` are all campaigns in the database with their submissions.
    """
    engine = _engine(kind, campaign)
    owners = [
        owner
        for other, submission in campaigns
        if _engine(kind, other) == engine
        for owner in submission.get("owners", ())
    ]
    launchpad = databases.launchpad()
    jobs = launchpad.fireworks.find(
        {
            "spec.campaign": {"$in": owners},
            "spec.step": kind.step.value,
            "spec._category": kind.category.value,
            "state": "COMPLETED",
        },
        ["launches"],
    )
    latest = [job["launches"][-1] for job in jobs.sort("fw_id", -1).limit(MAX_LAUNCHES)]
    launches = launchpad.launches.find({"launch_id": {"$in": latest}}, ["runtime_secs"])
    if seconds := [launch["runtime_secs"] for launch in launches]:
        return mean(seconds), f"mean of {counted(len(seconds), 'job')} here"
    measured = _measured_seconds(kind, campaign)
    return measured, "not measured yet" if measured is None else MEASURED_SOURCE


def _engine(kind: Kind, campaign: Campaign) -> object:
    """Return the settings that determine the wall time of a job of this kind."""
    engines = campaign.engines
    match kind.step:
        case Step.RELAX | Step.STATIC:
            by_vasp = engines.energy.name == "vasp" and kind.category is campaign.routing.dft
            return engines.energy.name if by_vasp else engines.potential.name
        case Step.HYBRID | Step.BAND_GAP:
            return engines.band_gap.name
        case Step.PRESCREEN if campaign.prescreen is not None:
            return _potentials(campaign), _batch_size(campaign)
        case Step.TRAIN if campaign.generator.checkpoint is None:
            return campaign.generator
    return None


def _measured_seconds(kind: Kind, campaign: Campaign) -> float | None:
    """Return the wall time of one job from the documentation, s; None: not measured."""
    generator = campaign.generator
    if kind.step is Step.TRAIN and generator.checkpoint is None:
        seconds = generator.max_steps * TRAINING_SECONDS_PER_STEP[generator.preset]
        return min(seconds, generator.max_seconds or seconds)
    if kind.step is Step.PRESCREEN:
        per_structure = PRESCREEN_SECONDS.get(_potentials(campaign))
        return per_structure and per_structure * _batch_size(campaign)
    return MEASURED.get((kind.step, _engine(kind, campaign)))


def _potentials(campaign: Campaign) -> tuple[str, str | None]:
    """Return the names of the relaxing and the confirming potential of the prescreen."""
    confirming = campaign.prescreening.confirming(campaign.engines)
    relaxing = campaign.prescreening.relaxing(campaign.engines)
    return relaxing.name, confirming.name if confirming else None


def _batch_size(campaign: Campaign) -> float:
    """Return the mean number of structures per prescreen job."""
    sampling = campaign.sampling
    n_batches = ceil(sampling.structures_per_composition / sampling.batch_size)
    n_jobs = n_batches * len(sampling.proposers) * len(campaign.target_counts)
    return campaign.n_structures / n_jobs


def _gap_share(campaign: Campaign, databases: Databases) -> Share:
    """Return the share of structures with a band gap calculation."""
    settings = operator.attrgetter("engines.energy.name", "thresholds")
    evaluated = {"stage": {"$ne": Stage.GENERATED.value}}
    selected = {"stage": {"$in": [Stage.POURBAIX_STABLE.value, Stage.PHOTOANODE.value]}}
    share = _share(campaign, databases, settings, evaluated, selected)
    return share or Share(PUBLISHED_SYNTHESIZABLE, PUBLISHED_GENERATED, PUBLISHED_SOURCE)


def _survivor_share(campaign: Campaign, databases: Databases) -> Share:
    """Return the share of structures that survive the prescreen."""
    settings = operator.attrgetter("prescreen", "engines", "thresholds.metastable")
    prescreened: dict[str, Any] = {"prescreen": {"$ne": None}}
    share = _share(campaign, databases, settings, prescreened, {"prescreen.rejected_at": None})
    return share or Share(PUBLISHED_METASTABLE, PUBLISHED_GENERATED, PUBLISHED_SOURCE)


def _share(
    campaign: Campaign,
    databases: Databases,
    settings_of: Callable[[Campaign], object],
    population: dict[str, Any],
    selected: dict[str, Any],
) -> Share | None:
    """Return the share of selected candidates; None if the database has too few.

    Counts generated candidates of all campaigns with the same settings. ``population`` and
    ``selected`` are queries for candidates.
    """
    settings = settings_of(campaign)
    names = [other.name for other, _ in submissions(databases) if settings_of(other) == settings]
    candidates = databases.launchpad().db["candidates"]
    population |= {"campaign": {"$in": names}, "origin.proposer": {"$ne": REFERENCE_PHASE}}
    n_all = candidates.count_documents(population)
    n_selected = candidates.count_documents({"$and": [population, selected]})
    return Share(n_selected, n_all, "this database") if n_all >= MIN_CANDIDATES else None
