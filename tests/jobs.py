"""A campaign whose jobs only add numbers, for tests of queues and workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobflow import job

from flows.routing import label, mark, route
from gan_htvs.campaign.model import Campaign
from gan_htvs.campaign.routing import RoutingSettings

if TYPE_CHECKING:
    from jobflow import Job

    from gan_htvs.core.stages import Step

SEARCH = Campaign(
    name="search",
    chemical_system={"caps": {"Mg": 2, "O": 2}},
    oxidation_states={"Mg": (2, 2), "O": (-2, -2)},
)


@job
def add(a, b):
    return a + b


def labeled(job: Job, step: Step, owner: str = "search", **more: str) -> Job:
    """Label a job and assign it to workers of category "cpu", as a campaign does."""
    return route(label(mark(job, step, "other"), owner, **more), RoutingSettings())
