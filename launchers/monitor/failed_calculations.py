"""List failed calculations with their reasons, and queue them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gan_htvs.core.failure import CalculationFailure
from gan_htvs.core.properties import BAND_GAP
from gan_htvs.core.stages import CALCULATIONS, Stage, Step
from launchers.launchpad.jobs import UUID
from launchers.launchpad.units import CampaignUnits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gan_htvs.campaign.model import Campaign
    from launchers.launchpad.database import Databases
    from launchers.launchpad.jobs import CampaignLaunchPad, QueuedJob

RETRIED_STEPS = tuple(step for step in Step if step not in CALCULATIONS)
"""Steps that are queued again after an exception; a failed calculation is a result."""


class FailedCalculation(NamedTuple):
    """A calculation without a result."""

    fw_id: int
    candidate_id: str
    step: str
    reason: str
    folder: str | None
    is_retryable: bool = False
    """Whether it was stopped or killed; a retry may then succeed."""


def failed_calculations(databases: Databases, campaign: Campaign) -> list[FailedCalculation]:
    """Return the failed calculations that candidates, references or band gaps still need.

    A failed magnetic ordering is included even if another one succeeded, because energy and band
    gap are then incomplete, unless the candidate is rejected. Calculations of reference phases are
    included until the reference set is stored.
    """
    units = CampaignUnits(campaign)
    query = {
        "metadata.campaign": {"$in": units.owners},
        "metadata.step": {"$in": list(CALCULATIONS)},
        "output.@class": CalculationFailure.__name__,
    }
    with databases.store("outputs", key="uuid") as outputs:
        failures = {
            document["uuid"]: document["output"]
            for document in outputs.query(query, ["uuid", "output"])
            # Jobs that only pass on the failure of a parent are rerun with that parent.
            if document["output"]["job"] == document["uuid"]
        }
    ended = [{"state": "FIZZLED"}, {"state": "COMPLETED", UUID: {"$in": list(failures)}}]
    jobs = databases.launchpad().jobs(units.owners, steps=CALCULATIONS, query={"$or": ended})
    latest_jobs = {job.uuid: job for job in jobs}
    with databases.store("candidates", key="candidate_id") as store:
        ids = sorted({job.candidate_id for job in jobs})
        documents = store.query(
            {"campaign": campaign.name, "candidate_id": {"$in": ids}},
            ["candidate_id", "stage", "missing_property"],
        )
        candidates = {document["candidate_id"]: document for document in documents}
    lacks_references = not databases.stored([units.references])
    failed = []
    for uuid, job in latest_jobs.items():
        of_reference = lacks_references and job.owner == units.references
        of_candidate = job.owner == campaign.name
        if of_reference or (of_candidate and _is_needed(job, candidates.get(job.candidate_id))):
            raised = {"step": job.name, "reason": job.error, "folder": None, "is_retryable": True}
            failure = raised if job.state == "FIZZLED" else failures[str(uuid)]
            fields: dict[str, Any] = {name: failure.get(name) for name in raised}
            failed.append(FailedCalculation(job.fw_id, job.candidate_id, **fields))
    return failed


def _is_needed(job: QueuedJob, candidate: Mapping[str, Any] | None) -> bool:
    """Return whether a candidate still needs the result of a failed job."""
    if candidate is None or candidate["stage"] in (Stage.GENERATED, Stage.REJECTED):
        return False
    lacks_gap = candidate.get("missing_property") == BAND_GAP
    return candidate["stage"] == Stage.FAILED or lacks_gap or job.step != Step.HYBRID


def raised_jobs(launchpad: CampaignLaunchPad, campaign: Campaign) -> list[FailedCalculation]:
    """Return the jobs that raised an exception, except calculations of single structures."""
    jobs = launchpad.jobs(CampaignUnits(campaign).owners, states=["FIZZLED"], steps=RETRIED_STEPS)
    return [FailedCalculation(job.fw_id, "", job.name, job.error, None) for job in jobs]


def queue_again(
    launchpad: CampaignLaunchPad, failed: Iterable[FailedCalculation | QueuedJob]
) -> None:
    """Queue failed calculations again, with all jobs that depend on them."""
    for calculation in failed:
        launchpad.rerun_fw(calculation.fw_id)
