"""Search for missing properties and incomplete band gaps."""

from __future__ import annotations

from datetime import datetime

import pytest
from jobflow import Flow
from jobflow.managers.fireworks import flow_to_workflow

from gan_htvs.core.band_gap import BandGapResult, MagneticOrderingResult
from gan_htvs.core.candidate import Verdict
from gan_htvs.core.failure import CalculationFailure
from gan_htvs.core.funnel_stages import FunnelStage
from gan_htvs.core.hashing import content_hash
from gan_htvs.core.properties import PropertyResult, UserProperty
from gan_htvs.core.stages import Step
from launchers.launchpad.feeder import submit
from launchers.launchpad.registry import register
from launchers.launchpad.units import CampaignUnits
from launchers.monitor.missing_properties import missing_properties
from tests.helpers import mg_o, proposal, relaxed, rocksalt
from tests.jobs import add, labeled, store_output

SEARCH = mg_o(engines={"band_gap": {"name": "vasp"}})
RELAXED = relaxed()
GATE = "gate of stable"


def gap_flow(structure=RELAXED):
    """Return the jobs of a band gap: the hybrid calculation and its analysis."""
    return CampaignUnits(SEARCH).flows.band_gap(structure)


HYBRID, GAP = gap_flow().job_uuids


def store(databases, uuid, output, **metadata):
    store_output(databases, uuid, output, campaign="mg-o", **metadata)


def store_candidate(databases, structure=RELAXED, gap_job=GAP, **fields):
    """Store a candidate that passed its gate and has no band gap, unless ``fields`` has one."""
    register(SEARCH, databases)
    start = proposal("stable", rocksalt())
    verdict = Verdict(
        **dict(start),
        relaxed=structure,
        relaxed_hash=content_hash(structure.structure),
        stage="pourbaix_metastable",
        references="references",
        band_gap_job=gap_job,
    )
    store(databases, GATE, verdict, step="gate", candidate_id="stable")
    candidate = {"candidate_id": "stable", "campaign": "mg-o", "stage": "pourbaix_metastable"}
    with databases.store("candidates", key="candidate_id") as candidates:
        candidates.update([candidate | {"missing_property": "band_gap"} | fields])


@pytest.fixture
def built(databases, launchpad):
    """Databases with a candidate that passed its gate and has no band gap."""
    store_candidate(databases)
    return databases


def queue(launchpad, flow, state=None):
    """Queue jobs as a gate does, and set their state."""
    workflow = flow_to_workflow(flow, allow_external_references=True)
    ids = list(launchpad.add_wf(workflow).values())
    if state is not None:
        launchpad.fireworks.update_many({"fw_id": {"$in": ids}}, {"$set": {"state": state}})


def test_missing_gap_is_queued_once(built, launchpad):
    (unit,) = missing_properties(SEARCH, built)
    assert unit.flow.job_uuids == (HYBRID, GAP)
    assert {job.metadata["candidate_id"] for job in unit.flow.jobs} == {"stable"}
    assert submit(launchpad, [unit], SEARCH) == 1
    assert missing_properties(SEARCH, built) == []


@pytest.mark.parametrize("state", [None, "RESERVED", "RUNNING", "PAUSED", "DEFUSED", "FIZZLED"])
def test_gap_with_unfinished_or_failed_job_is_not_missing(built, launchpad, state):
    queue(launchpad, gap_flow(), state=state)
    assert missing_properties(SEARCH, built) == []


@pytest.mark.parametrize(("state", "n"), [("RUNNING", 0), ("FIZZLED", 0), ("COMPLETED", 1)])
def test_gap_of_unfinished_gate_is_not_missing(built, launchpad, state, n):
    gate = labeled(add(1, 2), Step.GATE, "mg-o", candidate_id="stable")
    gate.set_uuid(GATE)
    queue(launchpad, Flow([gate]), state=state)
    assert len(missing_properties(SEARCH, built)) == n


def order(start, energy=None, reason=None, **more):
    return MagneticOrderingResult(start=start, energy_per_atom=energy, reason=reason, **more)


FM, AFM = order("FM", -7.0), order("AFM", -7.1)
KILLED = order("AFM", reason="killed", is_retryable=True)
LIMITED = order("AFM", reason="stopped", is_limited=True, scf_iterations=419)
AT_LIMIT = order("AFM", reason="stopped", is_limited=True, scf_iterations=420)
UNCONVERGED = order("AFM", reason="not converged")
SKIPPED = order("AFM", reason="too large", is_skipped=True)


@pytest.mark.parametrize(
    ("orders", "n"),
    [
        ((FM, LIMITED), 1),
        ((FM, AT_LIMIT), 0),
        ((FM, UNCONVERGED), 0),
        ((FM, SKIPPED), 0),
        ((AFM, FM), 0),
    ],
)
def test_gap_with_limited_magnetic_orders_is_missing(built, launchpad, orders, n):
    store(built, GAP, BandGapResult(band_gap=1.3, magnetic_orders=orders))
    units = missing_properties(SEARCH, built)
    assert len(units) == n
    assert submit(launchpad, units, SEARCH) == n
    assert missing_properties(SEARCH, built) == []


@pytest.mark.parametrize("result", [None, BandGapResult(magnetic_orders=(FM, KILLED))])
def test_incomplete_energy_is_completed_before_its_gap(databases, launchpad, result):
    """`gan-htvs retry` and the next run queue the order again, and the gate after it."""
    incomplete = RELAXED.model_copy(update={"magnetic_orders": (FM, KILLED)})
    gap_job = gap_flow(incomplete).output.uuid
    store_candidate(databases, incomplete, gap_job)
    if result is not None:
        store(databases, gap_job, result)
    assert missing_properties(SEARCH, databases) == []


def test_gap_is_computed_if_the_missing_order_is_not_retryable(databases, launchpad):
    incomplete = RELAXED.model_copy(update={"magnetic_orders": (FM, UNCONVERGED)})
    store_candidate(databases, incomplete, gap_flow(incomplete).output.uuid)
    assert len(missing_properties(SEARCH, databases)) == 1


@pytest.mark.parametrize(("began", "n"), [("2025-12-31", 0), ("2026-01-01", 0), ("2026-01-02", 1)])
def test_gaps_computed_in_this_run_are_excluded(built, began, n):
    gap = BandGapResult(magnetic_orders=(FM, KILLED))
    store(built, GAP, gap)
    assert len(missing_properties(SEARCH, built, before=datetime.fromisoformat(began))) == n


@pytest.mark.parametrize(("is_retryable", "n"), [(True, 2), (False, 0)])
def test_stopped_hybrid_is_computed_again(built, is_retryable, n):
    failure = CalculationFailure(
        step="hybrid", reason="stopped", folder="", job="", is_retryable=is_retryable
    )
    result = BandGapResult(reason="stopped", failure=failure, is_retryable=is_retryable)
    store(built, HYBRID, failure)
    store(built, GAP, result)
    units = missing_properties(SEARCH, built)
    assert sum(len(unit.flow.jobs) for unit in units) == n


@pytest.mark.parametrize(("is_retryable", "n"), [(True, 1), (False, 0)])
def test_results_after_the_last_build_are_considered(built, is_retryable, n):
    result = BandGapResult(reason="no VASP here", is_retryable=is_retryable)
    store(built, GAP, result)
    assert len(missing_properties(SEARCH, built)) == n


def test_incomplete_gap_is_completed_with_its_uuid():
    flows = CampaignUnits(mg_o(engines={"band_gap": {"name": "gpaw"}})).flows
    previous = BandGapResult(band_gap=1.3, magnetic_orders=(FM, LIMITED))
    again = flows.band_gap(RELAXED, previous)
    assert again.function_kwargs == {"previous": previous}
    assert again.output.uuid == flows.band_gap(RELAXED).output.uuid


@pytest.mark.parametrize(
    ("fields", "n"),
    [
        ({"stage": "pourbaix_metastable", "missing_property": "band_gap"}, 1),
        ({"stage": "photoanode", "missing_property": None}, 1),
        ({"stage": "relaxed", "missing_property": None}, 0),
    ],
)
def test_built_incomplete_gap_is_completed(databases, launchpad, fields, n):
    """Also if the campaign accepts it, but not if the candidate has left the funnel."""
    gap = BandGapResult(band_gap=1.9, magnetic_orders=(FM, LIMITED))
    built_gap = gap.model_dump(mode="json")
    store_candidate(databases, band_gap_result=built_gap, **fields)
    store(databases, GAP, gap)
    assert len(missing_properties(SEARCH, databases)) == n


def test_campaign_without_gaps_has_no_missing_gap(built):
    assert missing_properties(mg_o(), built) == []


def test_missing_property_of_the_user_is_queued_once(databases, launchpad):
    packing = UserProperty(path="tests.user_properties.atoms_per_volume")
    stage = {"name": "packed", "property": "packing"}
    campaign = SEARCH.model_copy(
        update={"properties": {"packing": packing}, "stages": (FunnelStage(**stage),)}
    )
    store_candidate(databases)
    with databases.store("candidates", key="candidate_id") as candidates:
        document = {"candidate_id": "stable", "campaign": "mg-o", "missing_property": "packing"}
        candidates.update([document])
    (unit,) = missing_properties(campaign, databases)
    uuid = packing.job_uuid(content_hash(RELAXED.structure))
    assert unit.flow.job_uuids == (uuid,)
    store(databases, uuid, PropertyResult(reason="it raised"))
    assert len(missing_properties(campaign, databases)) == 1
    store(databases, uuid, PropertyResult(value=1.0))
    assert missing_properties(campaign, databases) == []
