"""Which band gaps are missing, and which are only not there yet."""

from __future__ import annotations

from datetime import datetime

import pytest
from jobflow.managers.fireworks import flow_to_workflow
from pymatgen.core import Lattice, Structure

from flows.campaign import CampaignUnits
from flows.evaluate import EvaluateMaker, band_gap_jobs
from flows.prescreen import proposal_uuid
from flows.steps import Continuation
from gan_htvs.bandgap import BandGapResult, MagneticOrderResult
from gan_htvs.campaign import Campaign
from gan_htvs.candidate import Origin, Proposal, Relaxed, Stage, Verdict
from gan_htvs.failures import CalculationFailure
from launchers.feeder import submit
from launchers.gaps import missing_gaps
from launchers.registry import register

SEARCH = Campaign.model_validate(
    {
        "name": "mg-o",
        "chemical_system": {"caps": {"Mg": 1, "O": 1}},
        "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
        "engines": {"band_gap": {"name": "vasp"}},
        "sampling": {"proposers": ["random"]},
    }
)
MGO = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(4.25), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
).get_primitive_structure()
RELAXED = Relaxed(
    structure=MGO, energy_per_atom=-6.3, level_of_theory="CHGNet-0.3.0", converged=True
)
PROPOSAL = Proposal(
    candidate_id="stable",
    structure=MGO,
    origin=Origin(proposer="random", requested_composition="MgO", index=0),
)
GATE = EvaluateMaker(SEARCH, CampaignUnits(SEARCH).references).gate(PROPOSAL, RELAXED)
GAP_JOBS = band_gap_jobs(SEARCH, "stable", RELAXED, GATE.uuid)


def store(databases, uuid, output, **metadata):
    with databases.job_store() as outputs:
        outputs.update(
            [
                {
                    "uuid": uuid,
                    "index": 1,
                    "output": output,
                    "completed_at": "2026-01-01",
                    "metadata": {"campaign": "mg-o", **metadata},
                }
            ]
        )


@pytest.fixture
def built(databases, launchpad):
    """Databases in which a candidate was built that passed the gate and has no gap."""
    register(SEARCH, databases)
    verdict = Verdict(
        candidate_id="stable",
        relaxed=RELAXED,
        stage=Stage.POURBAIX_STABLE,
        references="references",
        band_gap_job=GAP_JOBS[-1].uuid,
    )
    store(databases, GATE.uuid, verdict, step="gate", candidate_id="stable")
    candidate = {"candidate_id": "stable", "campaign": "mg-o", "stage": "pourbaix_stable"}
    with databases.store("candidates", key="candidate_id") as candidates:
        candidates.update([candidate | {"band_gap": None}])
    return databases


def queue(launchpad, *jobs, state=None):
    """Queue jobs as the gate does, and let them have come to a state."""
    flow = Continuation([GATE.uuid], jobs)
    ids = launchpad.add_wf(flow_to_workflow(flow, allow_external_references=True))
    if state is not None:
        launchpad.fireworks.update_many(
            {"fw_id": {"$in": list(ids.values())}}, {"$set": {"state": state}}
        )


def test_a_gap_that_nobody_asked_for_is_queued_once(built, launchpad):
    (unit,) = missing_gaps(SEARCH, built)
    assert unit.flow.job_uuids == tuple(job.uuid for job in GAP_JOBS)
    assert submit(launchpad, [unit], SEARCH) == 1
    assert missing_gaps(SEARCH, built) == []


@pytest.mark.parametrize("state", [None, "RESERVED", "RUNNING", "PAUSED", "DEFUSED", "FIZZLED"])
def test_a_gap_that_waits_runs_or_has_failed_is_not_missing(built, launchpad, state):
    queue(launchpad, *band_gap_jobs(SEARCH, "stable", RELAXED, GATE.uuid), state=state)
    assert missing_gaps(SEARCH, built) == []


@pytest.mark.parametrize(("state", "n"), [("RUNNING", 0), ("FIZZLED", 0), ("COMPLETED", 1)])
def test_a_gate_that_has_not_ended_queues_its_own_gap(built, launchpad, state, n):
    gate = EvaluateMaker(SEARCH, CampaignUnits(SEARCH).references).gate(PROPOSAL, RELAXED)
    queue(launchpad, gate, state=state)
    assert len(missing_gaps(SEARCH, built)) == n


def order(start, energy=None, reason=None, **more):
    return MagneticOrderResult(start=start, energy_per_atom=energy, reason=reason, **more)


FM, AFM = order("FM", -7.0), order("AFM", -7.1)
STOPPED = order("AFM", reason="stopped", is_retryable=True)
UNCONVERGED = order("AFM", reason="not converged")
SKIPPED = order("AFM", reason="too large", is_skipped=True)


@pytest.mark.parametrize(
    ("orders", "n"),
    [((FM, STOPPED), 1), ((FM, UNCONVERGED), 0), ((FM, SKIPPED), 0), ((AFM, FM), 0)],
)
def test_a_gap_without_orders_that_were_stopped_is_missing(built, launchpad, orders, n):
    store(built, GAP_JOBS[-1].uuid, BandGapResult(band_gap=1.3, magnetic_orders=orders))
    units = missing_gaps(SEARCH, built)
    assert len(units) == n
    assert submit(launchpad, units, SEARCH) == n
    assert missing_gaps(SEARCH, built) == []


@pytest.mark.parametrize(("began", "n"), [("2025-12-31", 0), ("2026-01-01", 0), ("2026-01-02", 1)])
def test_what_was_computed_in_this_run_is_left_to_the_next_one(built, began, n):
    gap = BandGapResult(band_gap=1.3, magnetic_orders=(FM, STOPPED))
    store(built, GAP_JOBS[-1].uuid, gap)
    assert len(missing_gaps(SEARCH, built, before=datetime.fromisoformat(began))) == n


@pytest.mark.parametrize(("is_retryable", "n"), [(True, 2), (False, 0)])
def test_a_hybrid_that_was_stopped_is_computed_again(built, is_retryable, n):
    failure = CalculationFailure(
        step="hybrid", reason="stopped", folder="", job="", is_retryable=is_retryable
    )
    result = BandGapResult.not_computed("stopped", failure=failure, is_retryable=is_retryable)
    for each, output in zip(GAP_JOBS, (failure, result), strict=True):
        store(built, each.uuid, output)
    units = missing_gaps(SEARCH, built)
    assert sum(len(unit.flow.jobs) for unit in units) == n


MNO = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(4.445), ["Mn", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
).get_primitive_structure()


class TestMissingOrders:
    """A candidate whose energy by VASP lacks a magnetic order."""

    CAMPAIGN = Campaign.model_validate(
        SEARCH.model_dump(mode="json")
        | {
            "chemical_system": {"caps": {"Mn": 1, "O": 1}},
            "oxidation_states": {"Mn": [2, 2], "O": [-2, -2]},
            "engines": {"energy": {"name": "vasp"}, "band_gap": {"name": "vasp"}},
            "prescreen": None,
        }
    )
    PROPOSAL = PROPOSAL.model_copy(update={"structure": MNO})

    @pytest.fixture
    def left(self, databases, launchpad):
        """Store a candidate with these magnetic orders, its steps of FM and AFM relax 1."""

        def leave(*orders):
            register(self.CAMPAIGN, databases)
            jobs = EvaluateMaker(self.CAMPAIGN, "references").jobs(self.PROPOSAL)
            relaxed = RELAXED.model_copy(update={"structure": MNO, "magnetic_orders": orders})
            verdict = Verdict(
                candidate_id="stable",
                relaxed=relaxed,
                stage=Stage.POURBAIX_STABLE,
                references="references",
            )
            failure = CalculationFailure(
                step="AFM relax 2", reason="stopped", folder="", job="", is_retryable=True
            )
            for name, each in jobs.items():
                failed = name in ("AFM relax 2", "AFM static")
                store(databases, each.uuid, failure if failed else {"@class": "TaskDoc"})
            store(databases, jobs["gate"].uuid, verdict, step="gate", candidate_id="stable")
            store(databases, proposal_uuid("stable"), self.PROPOSAL)
            gap = BandGapResult(band_gap=1.3, magnetic_orders=orders)
            gap_jobs = band_gap_jobs(self.CAMPAIGN, "stable", relaxed, jobs["gate"].uuid)
            store(databases, gap_jobs[-1].uuid, gap)
            with databases.store("candidates", key="candidate_id") as candidates:
                candidates.update(
                    [
                        {
                            "candidate_id": "stable",
                            "campaign": "mg-o",
                            "stage": "pourbaix_stable",
                            "band_gap": None,
                            "band_gap_result": gap.model_dump(mode="json"),
                        }
                    ]
                )
            return jobs

        return leave

    def test_what_was_stopped_is_computed_and_judged_again(self, left, databases, launchpad):
        jobs = left(FM, STOPPED)
        (unit,) = missing_gaps(self.CAMPAIGN, databases)
        again = ("AFM relax 2", "AFM static", "gate")
        assert unit.flow.job_uuids == tuple(jobs[name].uuid for name in again)
        assert submit(launchpad, [unit], self.CAMPAIGN) == 1
        assert missing_gaps(self.CAMPAIGN, databases) == []

    @pytest.mark.parametrize("orders", [(FM, UNCONVERGED), (FM, AFM)])
    def test_what_would_fail_again_is_not(self, left, databases, orders):
        left(*orders)
        assert missing_gaps(self.CAMPAIGN, databases) == []

    def test_nor_what_was_stopped_in_this_run(self, left, databases):
        left(FM, STOPPED)
        began = datetime.fromisoformat("2025-12-31")
        assert missing_gaps(self.CAMPAIGN, databases, before=began) == []


@pytest.mark.parametrize(("is_retryable", "n"), [(True, 1), (False, 0)])
def test_what_was_found_after_the_build_counts(built, is_retryable, n):
    result = BandGapResult.not_computed("no VASP here", is_retryable=is_retryable)
    store(built, GAP_JOBS[-1].uuid, result)
    assert len(missing_gaps(SEARCH, built)) == n
