"""Where a job runs and which is taken first, as FireWorks reads it from the spec.

A campaign finishes candidates before it starts others: the nearer a job is to the end of the
funnel, the sooner a worker takes it. What everything waits for comes before all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gan_htvs.candidate import Step
from gan_htvs.engines import VASP_ENGINES
from gan_htvs.proposers import ProposerName

if TYPE_CHECKING:
    from jobflow import Flow, Job

    from gan_htvs.campaign import Campaign
    from gan_htvs.routing import Category

PRIORITY = {
    step: 10 * rank
    for rank, step in enumerate(
        (
            Step.PROPOSE,
            Step.PRESCREEN,
            Step.RELAX,
            Step.STATIC,
            Step.GATE,
            Step.HYBRID,
            Step.BAND_GAP,
            Step.REFERENCES,
            Step.TRAIN,
            Step.RELEASE,
        )
    )
}
"""``_priority`` of each step; workers take the highest first."""


def routed(category: Category, step: Step) -> dict[str, str | int]:
    """Give the part of a Firework's spec that sends it to its workers."""
    return {"_category": category.value, "_priority": PRIORITY[step]}


def prefer(work: Job, step: Step) -> None:
    """Let a job be taken as soon as those of another step are."""
    work.config.manager_config["_priority"] = PRIORITY[step]


def route(work: Job | Flow, category: Category, step: Step, *, passes_on: bool = True) -> None:
    """Send a job, or every job of a flow, to the workers of a category.

    Parameters
    ----------
    work
        What is sent.
    category
        The workers that take it.
    step
        Decides how soon it is taken.
    passes_on
        Whether the jobs that it makes when it runs go there, too; not if they are routed
        themselves.
    """
    work.update_config(
        {"manager_config": routed(category, step), "pass_manager_config": passes_on},
        dynamic=False,
    )


def categories_of(campaign: Campaign) -> set[Category]:
    """Name the workers that the jobs of a campaign need."""
    routing, engines = campaign.routing, campaign.engines
    by_vasp = engines.energy.name in VASP_ENGINES
    needed = {routing.other, routing.dft if by_vasp else routing.potential}
    if campaign.prescreen or (by_vasp and engines.vasp.pre_relaxation is not None):
        needed.add(routing.potential)
    if engines.band_gap.name != "none":
        needed.add(routing.hybrid)
    if ProposerName.GAN in campaign.sampling.proposers:
        needed |= {routing.train, routing.generate}
    return needed
