"""Calculations that failed: which, why, and how to queue exactly those again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flows.campaign import CampaignUnits
from gan_htvs.candidate import CALCULATIONS, Stage, Step
from gan_htvs.failures import CalculationFailure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gan_htvs.campaign import Campaign
    from launchers.database import Databases
    from launchers.launchpad import CampaignLaunchPad

RETRIED = (
    Step.PROPOSE,
    Step.PRESCREEN,
    Step.GATE,
    Step.BAND_GAP,
    Step.TRAIN,
    Step.REFERENCES,
    Step.RELEASE,
)
"""Steps that are run again if they failed; a failed relaxation is a result."""


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
        stages = {"$in": [Stage.FAILED.value, Stage.POURBAIX_STABLE.value]}
        lacking = candidates.query(
            {"campaign": campaign.name, "stage": stages, "band_gap": None},
            ["candidate_id", "stage"],
        )
        stage_of = {candidate["candidate_id"]: candidate["stage"] for candidate in lacking}
    jobs = launchpad.calculations([campaign.name], CALCULATIONS, list(stage_of))
    with databases.store("outputs", key="uuid") as outputs:
        has_references = outputs.count({"uuid": units.references}) > 0
        documents = outputs.query(
            {
                "metadata.campaign": {"$in": units.owners},
                "metadata.step": {"$in": [step.value for step in CALCULATIONS]},
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
    missed = [
        job for job in jobs if Step.HYBRID is job.step or stage_of[job.candidate_id] == Stage.FAILED
    ]
    if not has_references:
        missed += launchpad.calculations([units.references], CALCULATIONS)
    found = []
    for job in missed:
        if job.state == "FIZZLED":
            reason, step, folder = job.trace, job.name, None
        elif (failure := failures.get(job.uuid)) is not None:
            reason, step, folder = failure["reason"], failure["step"], failure["folder"]
        else:
            continue
        found.append(FailedCalculation(job.fw_id, job.candidate_id, step, reason, folder))
    return found


def raised_jobs(launchpad: CampaignLaunchPad, campaign: Campaign) -> list[FailedCalculation]:
    """List the jobs that raised and are no calculations of one structure."""
    return [
        FailedCalculation(job.fw_id, "", job.name, job.trace, None)
        for job in launchpad.failures(CampaignUnits(campaign).owners)
        if job.step in RETRIED
    ]


def queue_again(launchpad: CampaignLaunchPad, failed: Iterable[FailedCalculation]) -> None:
    """Queue calculations again, and with each of them all that follows from it."""
    for calculation in failed:
        launchpad.rerun_fw(calculation.fw_id)
