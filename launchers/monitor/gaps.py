"""Band gaps that the current settings require and that are missing or incomplete.

A gap is missing if the candidate was evaluated with other thresholds, if the machine could not
compute gaps, or if a calculation was killed. It is missing or incomplete if a calculation reached a
limit of SCF iterations or hybrid evaluations that is larger now.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from flows.campaign import band_gap_maker_of
from gan_htvs.core.band_gap import BandGapResult
from gan_htvs.core.document import decode
from gan_htvs.core.hashing import content_uuid
from gan_htvs.core.stages import Stage
from gan_htvs.results.builders.job_outputs import latest_gates, outputs_by_uuid
from launchers.launchpad.jobs import UUID
from launchers.launchpad.units import CampaignUnits, Unit, as_flow

if TYPE_CHECKING:
    from gan_htvs.campaign.model import Campaign
    from launchers.launchpad.database import Databases


def missing_gaps(
    campaign: Campaign, databases: Databases, *, before: datetime | None = None
) -> list[Unit]:
    """Return a unit for each missing or incomplete band gap of the last build of candidates.

    Gaps whose job is queued, running or failed are excluded; ``retry`` queues failed ones. Gaps of
    structures whose energy lacks a retryable magnetic ordering are also excluded.

    Parameters
    ----------
    campaign
        Campaign of the candidates.
    databases
        Databases of the campaign.
    before
        Local time; gaps that were computed at this time or later are excluded.
    """
    maker = band_gap_maker_of(campaign.engines)
    if maker is None or maker.unavailable_reason() is not None:
        return []
    is_missing = {"stage": Stage.POURBAIX_STABLE, "band_gap": None}
    may_succeed = {"band_gap_result.is_retryable": {"$ne": False}}
    # An incomplete gap may have been accepted.
    is_limited = {
        "stage": {"$in": [Stage.POURBAIX_STABLE, Stage.PHOTOANODE]},
        "band_gap_result.is_limited": True,
    }
    query = {"campaign": campaign.name, "$or": [is_missing | may_succeed, is_limited]}
    with databases.store("candidates", key="candidate_id") as candidates:
        ids = candidates.distinct("candidate_id", query)
    with databases.store("outputs", key="uuid") as outputs:
        latest = latest_gates(outputs, [campaign.name], []) if ids else {}
        gates = outputs_by_uuid(outputs, [latest[name]["uuid"] for name in ids if name in latest])
        verdicts = {uuid: decode(output) for uuid, output in gates.items()}
        gap_jobs = [verdict.band_gap_job for verdict in verdicts.values() if verdict.band_gap_job]
        fields = ["uuid", "completed_at", "output"]
        earlier_gaps = outputs.query({"uuid": {"$in": gap_jobs}}, fields)
        previous = {document["uuid"]: document for document in earlier_gaps}
    # A gate with a stored verdict may not have queued its gap yet.
    jobs_query = {UUID: {"$in": [*verdicts, *gap_jobs]}}
    jobs = databases.launchpad().jobs([campaign.name], query=jobs_query)
    queued = {job.uuid for job in jobs if job.state not in ("COMPLETED", "ARCHIVED")}
    flows = CampaignUnits(campaign).flows
    limits = campaign.engines.band_gap.model_dump(
        include={"max_scf_iterations", "max_hybrid_evaluations"}
    )
    units = []
    for gate, verdict in verdicts.items():
        gap_job, relaxed = verdict.band_gap_job, verdict.relaxed
        earlier = previous.get(gap_job, {})
        completed_at = earlier.get("completed_at")
        if {gate, gap_job} & queued or relaxed is None or gap_job is None:
            continue
        # jobflow stores local times without a zone
        if before and completed_at and datetime.fromisoformat(completed_at) >= before:
            continue
        if any(order.was_killed for order in relaxed.magnetic_orders):
            continue  # ``retry`` completes the energy first
        result = decode(earlier["output"]) if earlier.get("output") else None
        if isinstance(result, BandGapResult) and result.is_final(**limits):
            continue
        complete = result if isinstance(result, BandGapResult) else None
        flow = as_flow(flows.band_gap(relaxed, complete))
        flow.update_metadata({"candidate_id": verdict.candidate_id}, dynamic=True)
        flow.jobs[-1].set_uuid(gap_job)  # the verdict refers to the result by this uuid
        units.append(Unit(content_uuid("gap again", gap_job, completed_at), flow))
    return units
