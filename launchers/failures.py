"""List failed calculations with their reasons, and queue them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gan_htvs.candidate import CALCULATIONS, Stage, Step
from gan_htvs.failures import CalculationFailure
from launchers.units import CampaignUnits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gan_htvs.campaign import Campaign
    from launchers.database import Databases
    from launchers.launchpad import CampaignLaunchPad

RETRIED = (
    Step.PROPOSE,
    Step.PRESCREEN,
    Step.SELECT,
    Step.ENERGY,
    Step.GATE,
    Step.BAND_GAP,
    Step.TRAIN,
    Step.REFERENCES,
    Step.RELEASE,
)
"""Steps that are run again after a failure; a failed relaxation is a result."""


class FailedCalculation(NamedTuple):
    """A calculation without a result."""

    fw_id: int
    candidate_id: str
    step: str
    reason: str
    folder: str | None
    is_retryable: bool = False
    """Whether it was stopped or killed, so that a retry may succeed."""


def failed_calculations(databases: Databases, campaign: Campaign) -> list[FailedCalculation]:
    """Return the calculations without which candidates, references or band gaps have no result.

    A failed magnetic order is included if another one succeeded, unless its candidate is rejected,
    because energy and gap are then incomplete. Reference phases are included until the reference
    set is stored.
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
        # Jobs that only passed a failure on run again automatically.
        documents = [
            document for document in documents if document["output"]["job"] == document["uuid"]
        ]
    failures = {document["uuid"]: document["output"] for document in documents}
    with_failures = sorted(
        {str(document["metadata"].get("candidate_id")) for document in documents}
    )
    with databases.store("candidates", key="candidate_id") as candidates:
        lacks_gap = {"stage": Stage.POURBAIX_STABLE.value, "band_gap": None}
        lacks_order = {
            "candidate_id": {"$in": with_failures},
            "stage": {"$nin": [Stage.GENERATED.value, Stage.REJECTED.value]},
        }
        lacking = list(
            candidates.query(
                {
                    "campaign": campaign.name,
                    "$or": [{"stage": Stage.FAILED.value}, lacks_gap, lacks_order],
                },
                ["candidate_id", "stage", "band_gap"],
            )
        )
    needs_gap = {
        candidate["candidate_id"]
        for candidate in lacking
        if candidate["stage"] == Stage.FAILED.value
        or (candidate["stage"] == Stage.POURBAIX_STABLE.value and candidate.get("band_gap") is None)
    }
    jobs = launchpad.calculations(
        [campaign.name], CALCULATIONS, [candidate["candidate_id"] for candidate in lacking]
    )
    relevant = [job for job in jobs if job.step is not Step.HYBRID or job.candidate_id in needs_gap]
    if not has_references:
        relevant += launchpad.calculations([units.references], CALCULATIONS)
    failed = []
    for job in relevant:
        if job.state == "FIZZLED":
            reason, step, folder, is_retryable = job.trace, job.name, None, True
        elif (failure := failures.get(job.uuid)) is not None:
            reason, step, folder = failure["reason"], failure["step"], failure["folder"]
            is_retryable = bool(failure.get("is_retryable"))
        else:
            continue
        failed.append(
            FailedCalculation(job.fw_id, job.candidate_id, step, reason, folder, is_retryable)
        )
    return failed


def raised_jobs(launchpad: CampaignLaunchPad, campaign: Campaign) -> list[FailedCalculation]:
    """Return the jobs that raised and are not calculations of one structure."""
    return [
        FailedCalculation(job.fw_id, "", job.name, job.trace, None)
        for job in launchpad.failures(CampaignUnits(campaign).owners)
        if job.step in RETRIED
    ]


def queue_again(launchpad: CampaignLaunchPad, failed: Iterable[FailedCalculation]) -> None:
    """Queue calculations and all jobs that depend on them again."""
    for calculation in failed:
        launchpad.rerun_fw(calculation.fw_id)
