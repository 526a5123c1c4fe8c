"""Which band gaps are missing, and which are only not there yet."""

from __future__ import annotations

from datetime import datetime

import pytest
from jobflow import Flow
from jobflow.managers.fireworks import flow_to_workflow
from monty.json import jsanitize

from gan_htvs.core.band_gap import BandGapResult, MagneticOrderingResult
from gan_htvs.core.candidate import Verdict
from gan_htvs.core.failure import CalculationFailure
from gan_htvs.core.stages import Stage, Step
from launchers.launchpad.feeder import submit
from launchers.launchpad.registry import register
from launchers.launchpad.units import CampaignUnits
from launchers.monitor.gaps import missing_gaps
from tests.helpers import mg_o, proposal, relaxed, rocksalt
from tests.jobs import add, labeled

SEARCH = mg_o(engines={"band_gap": {"name": "vasp"}})
RELAXED = relaxed()
GATE = "gate of stable"


def gap_flow(structure=RELAXED):
    """Make the jobs of a band gap: the hybrid calculation, and what reads it."""
    return CampaignUnits(SEARCH).flows.band_gap(structure)


HYBRID, GAP = gap_flow().job_uuids


def store(databases, uuid, output, **metadata):
    document = {
        "uuid": uuid,
        "index": 1,
        "output": jsanitize(output, strict=True, enum_values=True),
        "completed_at": "2026-01-01",
        "metadata": {"campaign": "mg-o", **metadata},
    }
    with databases.store("outputs", key="uuid") as outputs:
        outputs.update([document])


def judge(databases, structure=RELAXED, gap_job=GAP):
    """Build a candidate that passed its gate and has no gap."""
    register(SEARCH, databases)
    start = proposal("stable", rocksalt())
    verdict = Verdict(
        candidate_id="stable",
        origin=start.origin,
        generated_structure=start.structure,
        relaxed=structure,
        stage=Stage.POURBAIX_STABLE,
        references="references",
        band_gap_job=gap_job,
    )
    store(databases, GATE, verdict, step="gate", candidate_id="stable")
    candidate = {"candidate_id": "stable", "campaign": "mg-o", "stage": "pourbaix_stable"}
    with databases.store("candidates", key="candidate_id") as candidates:
        candidates.update([candidate | {"band_gap": None}])


@pytest.fixture
def built(databases, launchpad):
    """Databases in which a candidate was built that passed the gate and has no gap."""
    judge(databases)
    return databases


def queue(launchpad, flow, state=None):
    """Queue jobs as a gate does, and let them have come to a state."""
    workflow = flow_to_workflow(flow, allow_external_references=True)
    ids = list(launchpad.add_wf(workflow).values())
    if state is not None:
        launchpad.fireworks.update_many({"fw_id": {"$in": ids}}, {"$set": {"state": state}})


def test_a_gap_that_was_not_queued_is_queued_once(built, launchpad):
    (unit,) = missing_gaps(SEARCH, built)
    assert unit.flow.job_uuids == (HYBRID, GAP)
    assert {job.metadata["candidate_id"] for job in unit.flow.jobs} == {"stable"}
    assert submit(launchpad, [unit], SEARCH) == 1
    assert missing_gaps(SEARCH, built) == []


@pytest.mark.parametrize("state", [None, "RESERVED", "RUNNING", "PAUSED", "DEFUSED", "FIZZLED"])
def test_a_gap_that_waits_runs_or_has_failed_is_not_missing(built, launchpad, state):
    queue(launchpad, gap_flow(), state=state)
    assert missing_gaps(SEARCH, built) == []


@pytest.mark.parametrize(("state", "n"), [("RUNNING", 0), ("FIZZLED", 0), ("COMPLETED", 1)])
def test_a_gate_that_has_not_ended_queues_its_own_gap(built, launchpad, state, n):
    gate = labeled(add(1, 2), Step.GATE, "mg-o", candidate_id="stable")
    gate.set_uuid(GATE)
    queue(launchpad, Flow([gate]), state=state)
    assert len(missing_gaps(SEARCH, built)) == n


def order(start, energy=None, reason=None, **more):
    return MagneticOrderingResult(start=start, energy_per_atom=energy, reason=reason, **more)


FM, AFM = order("FM", -7.0), order("AFM", -7.1)
STOPPED = order("AFM", reason="stopped", is_retryable=True)
UNCONVERGED = order("AFM", reason="not converged")
SKIPPED = order("AFM", reason="too large", is_skipped=True)


@pytest.mark.parametrize(
    ("orders", "n"),
    [((FM, STOPPED), 1), ((FM, UNCONVERGED), 0), ((FM, SKIPPED), 0), ((AFM, FM), 0)],
)
def test_a_gap_without_orders_that_were_stopped_is_missing(built, launchpad, orders, n):
    store(built, GAP, BandGapResult(band_gap=1.3, magnetic_orders=orders))
    units = missing_gaps(SEARCH, built)
    assert len(units) == n
    assert submit(launchpad, units, SEARCH) == n
    assert missing_gaps(SEARCH, built) == []


@pytest.mark.parametrize(
    "found", [None, BandGapResult(band_gap=1.3, magnetic_orders=(FM, STOPPED))]
)
def test_an_energy_that_lacks_an_order_is_completed_before_its_gap(databases, launchpad, found):
    """`gan-htvs retry` and the next run queue the order again, and the gate follows it."""
    incomplete = RELAXED.model_copy(update={"magnetic_orders": (FM, STOPPED)})
    gap_job = gap_flow(incomplete).output.uuid
    judge(databases, incomplete, gap_job)
    if found is not None:
        store(databases, gap_job, found)
    assert missing_gaps(SEARCH, databases) == []


def test_an_energy_whose_missing_order_would_fail_again_has_its_gap_computed(databases, launchpad):
    incomplete = RELAXED.model_copy(update={"magnetic_orders": (FM, UNCONVERGED)})
    judge(databases, incomplete, gap_flow(incomplete).output.uuid)
    assert len(missing_gaps(SEARCH, databases)) == 1


@pytest.mark.parametrize(("began", "n"), [("2025-12-31", 0), ("2026-01-01", 0), ("2026-01-02", 1)])
def test_what_was_computed_in_this_run_is_left_to_the_next_one(built, began, n):
    gap = BandGapResult(band_gap=1.3, magnetic_orders=(FM, STOPPED))
    store(built, GAP, gap)
    assert len(missing_gaps(SEARCH, built, before=datetime.fromisoformat(began))) == n


@pytest.mark.parametrize(("is_retryable", "n"), [(True, 2), (False, 0)])
def test_a_hybrid_that_was_stopped_is_computed_again(built, is_retryable, n):
    failure = CalculationFailure(
        step="hybrid", reason="stopped", folder="", job="", is_retryable=is_retryable
    )
    result = BandGapResult(reason="stopped", failure=failure, is_retryable=is_retryable)
    store(built, HYBRID, failure)
    store(built, GAP, result)
    units = missing_gaps(SEARCH, built)
    assert sum(len(unit.flow.jobs) for unit in units) == n


@pytest.mark.parametrize(("is_retryable", "n"), [(True, 1), (False, 0)])
def test_what_was_found_after_the_build_counts(built, is_retryable, n):
    result = BandGapResult(reason="no VASP here", is_retryable=is_retryable)
    store(built, GAP, result)
    assert len(missing_gaps(SEARCH, built)) == n


def test_an_incomplete_gap_is_completed_under_its_uuid():
    flows = CampaignUnits(mg_o(engines={"band_gap": {"name": "gpaw"}})).flows
    previous = BandGapResult(band_gap=1.3, magnetic_orders=(FM, STOPPED))
    again = flows.band_gap(RELAXED, previous)
    assert again.function_kwargs == {"previous": previous}
    assert again.output.uuid == flows.band_gap(RELAXED).output.uuid


def test_a_campaign_without_gaps_lacks_none(built):
    assert missing_gaps(mg_o(), built) == []
