"""Properties that the current stages require and that are missing or incomplete.

A property is missing if the candidate was evaluated with other stages, if the machine could not
compute it, if a calculation was killed, or if a stage before it needs a comparison of all
candidates, such as novelty. A gap is also missing or incomplete if a calculation reached a limit of
SCF iterations or hybrid evaluations that is larger now.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from flows.campaign import band_gap_maker_of
from gan_htvs.core.band_gap import BandGapResult
from gan_htvs.core.document import decode
from gan_htvs.core.hashing import content_uuid
from gan_htvs.core.properties import BAND_GAP, PropertyResult
from gan_htvs.results.builders.job_outputs import latest_gates, outputs_by_uuid
from launchers.launchpad.jobs import UUID
from launchers.launchpad.units import CampaignUnits, Unit, as_flow

if TYPE_CHECKING:
    from gan_htvs.campaign.model import Campaign
    from gan_htvs.core.candidate import Verdict
    from launchers.launchpad.database import Databases


def missing_properties(
    campaign: Campaign, databases: Databases, *, before: datetime | None = None
) -> list[Unit]:
    """Return a unit for each missing property or incomplete gap of the last build of candidates.

    Properties whose job is queued, running or failed are excluded; ``retry`` queues failed ones. So
    are gaps of structures whose energy lacks a retryable magnetic ordering.

    Parameters
    ----------
    campaign
        Campaign of the candidates.
    databases
        Databases of the campaign.
    before
        Local time; properties that were computed at this time or later are excluded.
    """
    computable = set(campaign.properties)
    maker = band_gap_maker_of(campaign.engines) if campaign.computes_gaps else None
    if maker is not None and maker.unavailable_reason() is None:
        computable.add(BAND_GAP)
    criteria: list[dict[str, Any]] = [{"missing_property": {"$in": sorted(computable)}}]
    if BAND_GAP in computable:  # an incomplete gap may have been accepted
        stages = campaign.funnel.names_from(BAND_GAP)
        criteria.append({"stage": {"$in": stages}, "band_gap_result.is_limited": True})
    query = {"campaign": campaign.name, "$or": criteria}
    with databases.store("candidates", key="candidate_id") as candidates:
        documents = candidates.query(query, ["candidate_id", "missing_property"])
        missing = {
            doc["candidate_id"]: doc.get("missing_property") or BAND_GAP for doc in documents
        }
    with databases.store("outputs", key="uuid") as outputs:
        latest = latest_gates(outputs, [campaign.name], []) if missing else {}
        gates = {name: latest[name]["uuid"] for name in missing if name in latest}
        stored = outputs_by_uuid(outputs, gates.values())
        verdicts: dict[str, Verdict] = {
            name: decode(stored[gate]) for name, gate in gates.items() if stored.get(gate)
        }
        jobs = {
            name: _job_of(missing[name], verdict, campaign) for name, verdict in verdicts.items()
        }
        fields = ["uuid", "completed_at", "output"]
        uuids = sorted(filter(None, jobs.values()))
        earlier = {doc["uuid"]: doc for doc in outputs.query({"uuid": {"$in": uuids}}, fields)}
    # A gate with a stored verdict may not have queued its next job yet.
    unfinished = {UUID: {"$in": [*gates.values(), *uuids]}}
    on_launchpad = databases.launchpad().jobs([campaign.name], query=unfinished)
    queued = {job.uuid for job in on_launchpad if job.state not in ("COMPLETED", "ARCHIVED")}
    flows = CampaignUnits(campaign).flows
    limits = campaign.engines.band_gap.model_dump(
        include={"max_scf_iterations", "max_hybrid_evaluations"}
    )
    units = []
    for name, verdict in verdicts.items():
        uuid, relaxed = jobs[name], verdict.relaxed
        previous = earlier.get(uuid or "", {})
        completed_at = previous.get("completed_at")
        if {gates[name], uuid} & queued or relaxed is None or uuid is None:
            continue
        # jobflow stores local times without a zone
        if before and completed_at and datetime.fromisoformat(completed_at) >= before:
            continue
        result = decode(previous["output"]) if previous.get("output") else None
        if isinstance(result, PropertyResult) and result.value is not None:
            continue
        if isinstance(result, BandGapResult) and result.is_final(**limits):
            continue
        if missing[name] == BAND_GAP:
            if any(order.was_killed for order in relaxed.magnetic_orders):
                continue  # ``retry`` completes the energy first
            incomplete = result if isinstance(result, BandGapResult) else None
            flow = as_flow(flows.band_gap(relaxed, incomplete))
            flow.jobs[-1].set_uuid(uuid)  # the verdict refers to the result by this uuid
        else:
            flow = as_flow(flows.user_property(missing[name], verdict))
        flow.update_metadata({"candidate_id": name}, dynamic=True)
        units.append(Unit(content_uuid("property again", uuid, completed_at), flow))
    return units


def _job_of(name: str, verdict: Verdict, campaign: Campaign) -> str | None:
    """Return the uuid of the job of a property of a candidate; None: without relaxed structure."""
    if name == BAND_GAP:
        return verdict.band_gap_job
    settings = campaign.properties[name]
    return verdict.relaxed_hash and settings.job_uuid(verdict.relaxed_hash)
