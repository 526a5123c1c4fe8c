"""Which band gaps are missing, and which are only not there yet."""

from __future__ import annotations

import pytest
from jobflow.managers.fireworks import flow_to_workflow
from pymatgen.core import Lattice, Structure

from flows.campaign import CampaignUnits
from flows.evaluate import EvaluateMaker, band_gap_jobs
from flows.steps import Continuation
from gan_htvs.bandgap import BandGapResult
from gan_htvs.campaign import Campaign
from gan_htvs.candidate import Origin, Proposal, Relaxed, Stage, Verdict
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


@pytest.mark.parametrize(("is_retryable", "n"), [(True, 1), (False, 0)])
def test_what_was_found_after_the_build_counts(built, is_retryable, n):
    result = BandGapResult.not_computed("no VASP here", is_retryable=is_retryable)
    store(built, GAP_JOBS[-1].uuid, result)
    assert len(missing_gaps(SEARCH, built)) == n
