"""Step, worker category and priority of jobs, for FireWorks.

Makers write the step and the kind of worker of each job into its metadata, which other managers
ignore. A campaign translates them into FireWorks' ``_category`` and ``_priority``. Later steps of
the funnel have higher priorities, so that candidates are finished before others are started;
references and training, on which all other jobs depend, have the highest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from jobflow import Flow, Job, JobConfig, OnMissing

from gan_htvs.core.stages import ProposerName, Step

if TYPE_CHECKING:
    from gan_htvs.campaign.model import Campaign
    from gan_htvs.campaign.routing import Category, RoutingSettings

Worker: TypeAlias = Literal["train", "generate", "potential", "dft", "hybrid", "property", "other"]
"""A field of :class:`gan_htvs.campaign.routing.RoutingSettings`."""

PRIORITY = {
    step: 10 * rank
    for rank, step in enumerate(
        (
            Step.PROPOSE,
            Step.PRESCREEN,
            Step.SELECT,
            Step.RELAX,
            Step.STATIC,
            Step.ENERGY,
            Step.GATE,
            Step.HYBRID,
            Step.BAND_GAP,
            Step.PROPERTY,
            Step.REFERENCES,
            Step.TRAIN,
            Step.RELEASE,
        )
    )
}
"""``_priority`` of each step; workers take the highest first."""

TOLERANT = JobConfig(on_missing_references=OnMissing.NONE)
"""Config of jobs that run, and record the failure, if an earlier job has no output."""

Work = TypeVar("Work", Job, Flow)


def mark(job: Job, step: Step, worker: Worker, name: str | None = None) -> Job:
    """Write the step of a job and the kind of worker that it needs into its metadata.

    ``name`` replaces the name of the job.
    """
    job.name = name or job.name
    job.update_metadata({"step": step.value, "worker": worker}, dynamic=False)
    return job


def jobs_of(work: Job | Flow) -> list[Job]:
    """List the jobs of a flow, nested flows included; a job is a list of itself."""
    return [work] if isinstance(work, Job) else [job for job, _ in work.iterflow()]


def label(work: Work, owner: str, **more: str) -> Work:
    """Write the owner of jobs into their metadata, and into that of the jobs that they create.

    The owner is a campaign or, for work that campaigns share, the uuid of its last job. Workers can
    be restricted to an owner, and progress is counted by owner.
    """
    work.update_metadata({"campaign": owner, **more}, dynamic=True)
    return work


def spec_of(category: Category, step: Step) -> dict[str, str | int]:
    """Return the category and priority of a Firework for its spec."""
    return {"_category": category.value, "_priority": PRIORITY[step]}


def route(work: Work, routing: RoutingSettings, *, first: bool = False) -> Work:
    """Assign the marked jobs of a flow to the workers of a campaign.

    Parameters
    ----------
    work
        Jobs of the Makers of this package.
    routing
        Worker category of each kind of work.
    first
        Whether the jobs have the priority of references.
    """
    for job in jobs_of(work):
        step = Step.REFERENCES if first else Step(job.metadata["step"])
        category = getattr(routing, job.metadata["worker"])
        job.update_config(
            {"manager_config": spec_of(category, step), "pass_manager_config": False},
            dynamic=False,
        )
    return work


def categories_of(campaign: Campaign) -> set[Category]:
    """Return the worker categories that the jobs of a campaign need."""
    routing, engines = campaign.routing, campaign.engines
    by_vasp = engines.energy.name == "vasp"
    categories = {routing.other, routing.dft if by_vasp else routing.potential}
    if campaign.prescreen or (by_vasp and engines.vasp.pre_relaxation):
        categories.add(routing.potential)
    if campaign.computes_gaps:
        categories.add(routing.hybrid)
    if any(campaign.funnel.uses(name) for name in campaign.properties):
        categories.add(routing.property)
    if ProposerName.GAN in campaign.sampling.proposers:
        categories |= {routing.train, routing.generate}
    return categories
