"""Band gaps that the current thresholds require and that are missing or incomplete.

Gaps may be missing because candidates were assessed with other thresholds, because the machine
could not compute gaps, or because calculations were stopped or killed.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from jobflow import Flow

from flows.campaign import band_gap_maker_of
from gan_htvs.bandgap import BandGapResult
from gan_htvs.builders.documents import latest_gates, outputs_by_uuid
from gan_htvs.candidate import Stage
from gan_htvs.documents import decode
from gan_htvs.identity import content_uuid
from launchers.units import CampaignUnits, Unit

if TYPE_CHECKING:
    from gan_htvs.campaign import Campaign
    from gan_htvs.candidate import RelaxedStructure, Verdict
    from launchers.database import Databases


def missing_gaps(
    campaign: Campaign, databases: Databases, *, before: datetime | None = None
) -> list[Unit]:
    """Make a unit for each missing or incomplete gap, according to the last build of candidates.

    Gaps of queued, running or failed jobs are excluded; ``retry`` queues failed ones. Gaps of
    structures whose energy lacks a magnetic order that ``retry`` queues are excluded, too.

    Parameters
    ----------
    campaign
        Campaign of the candidates.
    databases
        Databases of the campaign.
    before
        Local time; gaps that were computed later are left to the next run.
    """
    maker = band_gap_maker_of(campaign.engines)
    if maker is None or maker.unavailable_reason() is not None:
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
        ids = [
            document["candidate_id"]
            for document in lacking
            if (document.get("band_gap_result") or {}).get("is_retryable", True)
        ]
    if not ids:
        return []
    with databases.store("outputs", key="uuid") as outputs:
        latest = latest_gates(outputs, [campaign.name], [])
        stored = outputs_by_uuid(outputs, [latest[name]["uuid"] for name in ids])
        verdicts: dict[str, Verdict] = {uuid: decode(output) for uuid, output in stored.items()}
        gap_jobs = {uuid: str(verdict.band_gap_job) for uuid, verdict in verdicts.items()}
        previous = {
            document["uuid"]: document
            for document in outputs.query(
                {"uuid": {"$in": sorted(gap_jobs.values())}}, ["uuid", "completed_at", "output"]
            )
        }
    # A gate with a stored verdict may not have queued its gap yet.
    unfinished = databases.launchpad().unfinished(campaign.name, [*gap_jobs, *gap_jobs.values()])
    flows = CampaignUnits(campaign).flows
    units = []
    for gate, verdict in verdicts.items():
        gap_job = gap_jobs[gate]
        earlier = previous.get(gap_job, {})
        completed_at = earlier.get("completed_at")
        result = _result(earlier)
        if {gate, gap_job} & unfinished or _is_since(completed_at, before):
            continue
        if verdict.relaxed is None or _lacks_retryable_order(verdict.relaxed):
            continue
        if result is not None and not result.is_retryable:
            continue
        gap_jobs_again = flows.band_gap(verdict.relaxed, result)
        gap_jobs_again.update_metadata({"candidate_id": verdict.candidate_id}, dynamic=True)
        # The verdict refers to the result by this uuid.
        last = gap_jobs_again.jobs[-1] if isinstance(gap_jobs_again, Flow) else gap_jobs_again
        last.set_uuid(gap_job)
        key = content_uuid("gap again", gap_job, completed_at)
        if not isinstance(gap_jobs_again, Flow):
            gap_jobs_again = Flow([gap_jobs_again], name=gap_jobs_again.name)
        units.append(Unit(key, gap_jobs_again))
    return units


def _lacks_retryable_order(relaxed: RelaxedStructure) -> bool:
    """Return whether ``retry`` must complete the energy first, with another magnetic order."""
    return any(order.is_missing and order.is_retryable for order in relaxed.magnetic_orders)


def _result(document: dict[str, Any]) -> BandGapResult | None:
    output = decode(document["output"]) if document.get("output") else None
    return output if isinstance(output, BandGapResult) else None


def _is_since(completed_at: str | None, before: datetime | None) -> bool:
    """Return whether a job was completed at or after a local time; jobflow stores no time zone."""
    if before is None or completed_at is None:
        return False
    return datetime.fromisoformat(completed_at) >= before
