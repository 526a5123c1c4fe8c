"""Band gaps that today's thresholds ask for and that are missing or incomplete.

The gates asked with the thresholds of their time, a machine may have learnt to compute gaps since,
and calculations may have been stopped or killed. Where magnetic orders are missing from the energy
of a candidate, these are computed first; its gate then asks for the gap of the lowest order.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from jobflow import Flow, OutputReference

from flows.campaign import Unit
from flows.engines.band_gap import band_gap_engine
from flows.evaluate import EvaluateMaker, Survivor, band_gap_jobs
from flows.prescreen import proposal_uuid
from gan_htvs.builders.documents import latest_gates, mapping
from gan_htvs.candidate import Proposal, Stage
from gan_htvs.documents import decode
from gan_htvs.failures import CalculationFailure
from gan_htvs.identity import content_uuid

if TYPE_CHECKING:
    from jobflow import Job, JobStore

    from gan_htvs.campaign import Campaign
    from gan_htvs.candidate import Verdict
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
        verdicts = {gate: decode(_stored(outputs, gate)["output"]) for gate in gates}
        jobs = {
            gate: band_gap_jobs(campaign, verdict.candidate_id, verdict.relaxed, gate)
            for gate, verdict in verdicts.items()
        }
        # A gate that has stored its verdict may still have to queue what it asks for.
        expecting = [*gates, *(gap_job.uuid for *_, gap_job in jobs.values())]
        unended = databases.launchpad().unended(campaign.name, expecting)
        units = [
            _orders_unit(campaign, outputs, gate, verdicts[gate], before)
            or _gap_unit(outputs, of_gate, before)
            for gate, of_gate in jobs.items()
            if unended.isdisjoint({gate, of_gate[-1].uuid})
        ]
    return [unit for unit in units if unit is not None]


def _orders_unit(
    campaign: Campaign,
    outputs: JobStore,
    gate_uuid: str,
    verdict: Verdict,
    before: datetime | None,
) -> Unit | None:
    """Make the unit of the magnetic orders that were stopped, with the gate; None without any."""
    orders = verdict.relaxed.magnetic_orders if verdict.relaxed else ()
    starts = [order.start for order in orders if order.is_missing and order.is_retryable]
    completed_at = _stored(outputs, gate_uuid).get("completed_at")
    source = proposal_uuid(verdict.candidate_id)
    proposal = _stored(outputs, source).get("output")
    # Known phases are not proposed one by one: their energies belong to the reference set.
    if not starts or proposal is None or _is_since(completed_at, before):
        return None
    survivor = None
    if verdict.prescreen is not None:
        descent = decode(_stored(outputs, str(verdict.prescreen.descent))["output"])
        survivor = Survivor(verdict.prescreen, descent.relaxed.structure)
    jobs = EvaluateMaker(campaign, verdict.references).jobs(
        Proposal.model_validate(decode(proposal)), OutputReference(source), survivor
    )
    wanted = [
        each
        for name, each in jobs.items()
        if name == "gate" or (name.split()[0] in starts and not _has_result(outputs, each))
    ]
    key = content_uuid("orders again", gate_uuid, completed_at)
    return Unit(key, Flow(wanted, name=f"missing orders of {verdict.candidate_id}"))


def _gap_unit(outputs: JobStore, jobs: list[Job], before: datetime | None) -> Unit | None:
    """Make the unit of a gap; None if it was computed after the candidates were built."""
    *calculations, gap_job = jobs
    previous = _stored(outputs, gap_job.uuid)
    if previous and not mapping(previous).get("is_retryable"):
        return None
    completed_at = previous.get("completed_at")
    if _is_since(completed_at, before):
        return None
    key = content_uuid("gap again", gap_job.uuid, completed_at)
    missing = [each for each in calculations if not _has_result(outputs, each)]
    return Unit(key, Flow([*missing, gap_job], name=gap_job.name))


def _stored(outputs: JobStore, uuid: str) -> dict[str, Any]:
    return outputs.query_one({"uuid": uuid}, ["completed_at", "output"]) or {}


def _has_result(outputs: JobStore, calculation: Job) -> bool:
    """Whether the output of a calculation is stored, and is no failure."""
    is_result = {"output.@class": {"$ne": CalculationFailure.__name__}}
    return bool(outputs.count({"uuid": calculation.uuid} | is_result))


def _is_since(completed_at: str | None, before: datetime | None) -> bool:
    """Whether a job was completed at or after a local time; jobflow names no time zone."""
    if before is None or completed_at is None:
        return False
    return datetime.fromisoformat(completed_at) >= before
