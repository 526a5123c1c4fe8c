"""Band gaps that today's thresholds ask for and that are missing or incomplete.

The gates asked with the thresholds of their time, a machine may have learnt to compute gaps since,
and calculations may have been stopped or killed.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from jobflow import Flow

from flows.campaign import Unit
from flows.engines.band_gap import band_gap_engine
from flows.evaluate import band_gap_jobs
from gan_htvs.builders.documents import latest_gates, mapping
from gan_htvs.candidate import Stage
from gan_htvs.documents import decode
from gan_htvs.identity import content_uuid

if TYPE_CHECKING:
    from jobflow import Job, JobStore

    from gan_htvs.campaign import Campaign
    from launchers.database import Databases


def missing_gaps(
    campaign: Campaign, databases: Databases, *, before: datetime | None = None
) -> list[Unit]:
    """Make a unit for each gap that is missing or incomplete, as of the last build of candidates.

    What is queued, runs, or has failed and is queued again by ``retry``, is not missing.

    Parameters
    ----------
    campaign
        Whose candidates are looked at.
    databases
        Where they are.
    before
        Local time: what was computed since is left to the next run, whatever came of it.
    """
    if band_gap_engine(campaign.engines).obstacle() is not None:
        return []
    with databases.store("candidates", key="candidate_id") as candidates:
        lacking = candidates.query(
            {
                "campaign": campaign.name,
                "stage": Stage.POURBAIX_STABLE.value,
                "band_gap": None,
            },
            ["candidate_id", "band_gap_result.is_retryable"],
        )
        wanted = [
            document["candidate_id"]
            for document in lacking
            if (document.get("band_gap_result") or {}).get("is_retryable", True)
        ]
    if not wanted:
        return []
    with databases.job_store() as outputs:
        latest = latest_gates(outputs.docs_store, [campaign.name], [])
        gates = [latest[candidate_id]["uuid"] for candidate_id in wanted]
        jobs = {gate: _jobs(campaign, outputs, gate) for gate in gates}
        # A gate that has stored its verdict may still have to queue what it asks for.
        expecting = [*gates, *(gap_job.uuid for *_, gap_job in jobs.values())]
        unended = databases.launchpad().unended(campaign.name, expecting)
        units = [
            _unit(outputs, *of_gate, before=before)
            for gate, of_gate in jobs.items()
            if unended.isdisjoint({gate, of_gate[-1].uuid})
        ]
    return [unit for unit in units if unit is not None]


def _jobs(campaign: Campaign, outputs: JobStore, gate: str) -> list[Job]:
    verdict = decode(outputs.query_one({"uuid": gate}, ["output"])["output"])
    return band_gap_jobs(campaign, verdict.candidate_id, verdict.relaxed, gate)


def _unit(outputs: JobStore, *jobs: Job, before: datetime | None) -> Unit | None:
    """Make the unit of a gap; None if it was computed after the candidates were built."""
    *calculations, gap_job = jobs
    previous = outputs.query_one({"uuid": gap_job.uuid}, ["completed_at", "output"]) or {}
    if previous and not mapping(previous).get("is_retryable"):
        return None
    completed_at = previous.get("completed_at")
    # Jobflow writes local times, without a time zone.
    if before and completed_at and datetime.fromisoformat(completed_at) >= before:
        return None
    key = content_uuid("gap again", gap_job.uuid, completed_at)
    missing = [each for each in calculations if not outputs.count({"uuid": each.uuid})]
    return Unit(key, Flow([*missing, gap_job], name=gap_job.name))
