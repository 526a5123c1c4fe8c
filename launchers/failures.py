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

    A magnetic order that failed beside one that did not is among them, unless its candidate is
    rejected: energy and gap are those of an incomplete set of orders. Known phases are listed until
    there is a hull.
    """
    units = CampaignUnits(campaign)
    launchpad = databases.launchpad()
    with databases.store("outputs", key="uuid") as outputs:
        has_references = outputs.count({"uuid": units.references}) > 0
        documents = outputs.query(
            {
                "metadata.campaign": {"$in": units.owners},
                "metadata.step": {"$in": [step.value for step in CALCULATIONS]},
                "output.@class": CalculationFailure.__name__,
            },
            ["uuid", "output", "metadata.candidate_id"],
        )
        # What only handed a failure on runs again by itself.
        documents = [each for each in documents if each["output"]["job"] == each["uuid"]]
    failures = {document["uuid"]: document["output"] for document in documents}
    with_failures = sorted({str(each["metadata"].get("candidate_id")) for each in documents})
    with databases.store("candidates", key="candidate_id") as candidates:
        lacks_gap = {"stage": Stage.POURBAIX_STABLE.value, "band_gap": None}
        lacks_order = {
            "candidate_id": {"$in": with_failures},
            "stage": {"$nin": [Stage.GENERATED.value, Stage.REJECTED.value]},
        }
        found_candidates = list(
            candidates.query(
                {
                    "campaign": campaign.name,
                    "$or": [{"stage": Stage.FAILED.value}, lacks_gap, lacks_order],
                },
                ["candidate_id", "stage", "band_gap"],
            )
        )
    wants_gap = {
        each["candidate_id"]
        for each in found_candidates
        if each["stage"] == Stage.FAILED.value
        or (each["stage"] == Stage.POURBAIX_STABLE.value and each.get("band_gap") is None)
    }
    jobs = launchpad.calculations(
        [campaign.name], CALCULATIONS, [each["candidate_id"] for each in found_candidates]
    )
    missed = [job for job in jobs if job.step is not Step.HYBRID or job.candidate_id in wants_gap]
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
