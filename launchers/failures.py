"""Calculations that failed: which, why, and how to queue exactly those again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flows.campaign import CampaignUnits
from gan_htvs.candidate import Stage, Step
from gan_htvs.failures import CalculationFailure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gan_htvs.campaign import Campaign
    from launchers.database import Databases
    from launchers.launchpad import CampaignLaunchPad

CALCULATIONS = (Step.RELAX, Step.STATIC, Step.HYBRID)
"""Steps whose failure is one of a single structure."""


class FailedCalculation(NamedTuple):
    """A calculation that left no result."""

    fw_id: int
    candidate_id: str
    step: str
    reason: str
    folder: str | None


def failed_calculations(databases: Databases, campaign: Campaign) -> list[FailedCalculation]:
    """List the calculations that keep candidates, known phases and band gaps from a result.

    A magnetic order that failed beside one that did not is not among them: its candidate, or its
    known phase, has an energy.
    """
    units = CampaignUnits(campaign)
    launchpad = databases.launchpad()
    with databases.store("candidates", key="candidate_id") as candidates:
        lacking = candidates.query(
            {
                "campaign": campaign.name,
                "$or": [
                    {"stage": Stage.FAILED.value},
                    {"stage": Stage.POURBAIX_STABLE.value, "band_gap": None},
                ],
            },
            ["candidate_id"],
        )
        wanted = {candidate["candidate_id"] for candidate in lacking}
    jobs = launchpad.calculations(units.owners, CALCULATIONS)
    with databases.store("outputs", key="uuid") as outputs:
        has_references = outputs.count({"uuid": units.references}) > 0
        documents = outputs.query(
            {
                "metadata.campaign": {"$in": units.owners},
                "output.@class": CalculationFailure.__name__,
            },
            ["uuid", "output"],
        )
        # What only handed a failure on runs again by itself.
        failures = {
            document["uuid"]: document["output"]
            for document in documents
            if document["output"]["job"] == document["uuid"]
        }
    found = []
    for job in jobs:
        lacks_phase = job.owner == units.references and not has_references
        if not (lacks_phase or job.candidate_id in wanted):
            continue
        if job.state == "FIZZLED":
            reason, step, folder = job.trace, job.name, None
        elif (failure := failures.get(job.uuid)) is not None:
            reason, step, folder = failure["reason"], failure["step"], failure["folder"]
        else:
            continue
        found.append(FailedCalculation(job.fw_id, job.candidate_id, step, reason, folder))
    return found


def queue_again(launchpad: CampaignLaunchPad, failed: Iterable[FailedCalculation]) -> None:
    """Queue calculations again, and with each of them all that follows from it."""
    for calculation in failed:
        launchpad.rerun_fw(calculation.fw_id)
