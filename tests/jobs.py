"""Jobs that add numbers, their campaign, and stored outputs, for tests of the launchpad."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobflow import job
from monty.json import jsanitize

from flows.routing import label, mark, route
from gan_htvs.campaign.model import Campaign
from gan_htvs.campaign.routing import RoutingSettings
from tests.helpers import cesium_chloride, relaxed, rocksalt

if TYPE_CHECKING:
    from jobflow import Job

    from gan_htvs.core.stages import Step
    from launchers.launchpad.database import Databases
    from launchers.launchpad.units import CampaignUnits

SEARCH = Campaign(
    name="search",
    chemical_system={"caps": {"Mg": 2, "O": 2}},
    oxidation_states={"Mg": (2, 2), "O": (-2, -2)},
)


@job
def add(a, b):
    return a + b


def labeled(job: Job, step: Step, owner: str = "search", **more: str) -> Job:
    """Label a job and route it to category "cpu", as a campaign does."""
    return route(label(mark(job, step, "other"), owner, **more), RoutingSettings())


def store_output(databases: Databases, uuid: str, output: object, **metadata: str) -> None:
    """Store the output of a job."""
    output = jsanitize(output, strict=True, enum_values=True)
    document = {"uuid": uuid, "index": 1, "output": output, "completed_at": "2026-01-01"}
    with databases.store("outputs", key="uuid") as outputs:
        outputs.update([document | {"metadata": metadata}])


def store_references(databases: Databases, units: CampaignUnits, phases: tuple[str, ...]) -> None:
    """Store the relaxed reference phases and the reference set of a campaign."""
    relaxing = units.flows.shared["references"].jobs[0].output.uuid
    crystals = (rocksalt(), cesium_chloride())  # equal ones would be merged
    results = {name: relaxed(crystal) for name, crystal in zip(phases, crystals, strict=False)}
    store_output(databases, relaxing, results)
    store_output(databases, units.references, None)
