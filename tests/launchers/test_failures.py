"""Which failed calculations somebody waits for."""

from __future__ import annotations

import pytest
from jobflow import Flow, job
from monty.json import jsanitize

from flows.campaign import CampaignUnits, Unit
from flows.steps import label
from gan_htvs.campaign import Campaign
from gan_htvs.candidate import Step
from gan_htvs.failures import CalculationFailure
from gan_htvs.routing import Category
from launchers.database import open_databases
from launchers.failures import failed_calculations, queue_again, raised_jobs
from launchers.feeder import submit

CAMPAIGN = Campaign.model_validate(
    {
        "name": "mg-o",
        "chemical_system": {"caps": {"Mg": 2, "O": 2}},
        "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
        "engines": {"energy": {"name": "vasp"}, "band_gap": {"name": "vasp"}},
        "prescreen": None,
    }
)
REFERENCES = CampaignUnits(CAMPAIGN).references


@job
def calculate():
    return None


class Site:
    """A launchpad with calculations that have ended, and what they left."""

    def __init__(self, databases):
        self.databases = databases
        self.launchpad = databases.launchpad()
        self.launchpad.initialise()

    def leave(self, uuid, step, candidate, *, owner="mg-o", failed_in=None, state="COMPLETED"):
        ended = calculate()
        ended.set_uuid(uuid)
        label(ended, owner, step, Category.DFT, candidate_id=candidate)
        submit(self.launchpad, [Unit(uuid, Flow([ended]))], CAMPAIGN)
        self.launchpad.fireworks.update_one(
            {"spec._tasks.job.uuid": uuid}, {"$set": {"state": state}}
        )
        if failed_in is not None:
            failure = CalculationFailure(
                step=uuid, reason="custodian gave up", folder="host:/x", job=failed_in
            )
            output = jsanitize(failure, strict=True)
            labels = {"campaign": owner, "step": step.value, "candidate_id": candidate}
            with self.databases.store("outputs", key="uuid") as outputs:
                outputs.update([{"uuid": uuid, "metadata": labels, "output": output}])

    def judge(self, candidate, stage, band_gap=None):
        document = {"candidate_id": candidate, "campaign": "mg-o", "stage": stage}
        with self.databases.store("candidates", key="candidate_id") as candidates:
            candidates.update([document | {"band_gap": band_gap}])

    def failed(self):
        return [each.step for each in failed_calculations(self.databases, CAMPAIGN)]


@pytest.fixture
def site(launchpad_file):
    with open_databases(launchpad_file) as databases:
        yield Site(databases)


def test_a_failed_candidate_waits_for_the_first_that_failed(site):
    site.leave("FM relax 1", Step.RELAX, "a", failed_in="FM relax 1")
    site.leave("FM relax 2", Step.RELAX, "a", failed_in="FM relax 1")
    site.leave("FM static", Step.STATIC, "a", failed_in="FM relax 1")
    assert site.failed() == []
    site.judge("a", "failed")
    assert site.failed() == ["FM relax 1"]


def test_an_order_that_failed_beside_a_good_one_is_found(site):
    site.leave("FM relax 1", Step.RELAX, "a", failed_in="FM relax 1")
    site.leave("FM relax 2", Step.RELAX, "a", failed_in="FM relax 1")
    site.leave("AFM relax 1", Step.RELAX, "a")
    site.judge("a", "generated")
    assert site.failed() == []
    for stage in ("relaxed", "stable", "pourbaix_stable", "photoanode"):
        site.judge("a", stage, band_gap=2.0)
        assert site.failed() == ["FM relax 1"]
    site.judge("a", "rejected")
    assert site.failed() == []


def test_a_hybrid_that_failed_is_found_where_a_gap_is_wanted(site):
    site.leave("hybrid", Step.HYBRID, "a", failed_in="hybrid")
    site.judge("a", "stable")
    assert site.failed() == []
    site.judge("a", "pourbaix_stable")
    assert site.failed() == ["hybrid"]
    site.judge("a", "pourbaix_stable", band_gap=2.0)
    assert site.failed() == []


def test_known_phases_wait_until_the_hull_is_there(site):
    site.leave("FM relax 1", Step.RELAX, "phase", owner=REFERENCES, failed_in="FM relax 1")
    assert site.failed() == ["FM relax 1"]
    with site.databases.store("outputs", key="uuid") as outputs:
        outputs.update([{"uuid": REFERENCES, "metadata": {}, "output": {}}])
    assert site.failed() == []


def test_what_raised_is_among_them_and_what_runs_is_not(site):
    site.leave("relax", Step.RELAX, "a", state="FIZZLED")
    site.leave("running", Step.RELAX, "b", state="RUNNING", failed_in="running")
    site.judge("a", "failed")
    site.judge("b", "failed")
    (found,) = failed_calculations(site.databases, CAMPAIGN)
    assert (found.candidate_id, found.reason) == ("a", "no traceback was left")


def test_a_prescreen_that_raised_is_queued_again_and_goes_on(site):
    site.leave("pack", Step.PRESCREEN, "", state="FIZZLED")
    site.leave("relax", Step.RELAX, "a", state="FIZZLED")
    failed = raised_jobs(site.launchpad, CAMPAIGN)
    assert len(failed) == 1
    queue_again(site.launchpad, failed)
    assert site.launchpad.states(["mg-o"]) == {("prescreen", "READY"): 1, ("relax", "FIZZLED"): 1}


def test_they_are_queued_once_and_locks_of_others_stay(site):
    site.leave("FM relax 1", Step.RELAX, "a", failed_in="FM relax 1")
    site.leave("another", Step.RELAX, "b")
    site.judge("a", "failed")
    queue_again(site.launchpad, failed_calculations(site.databases, CAMPAIGN))
    assert site.launchpad.states(["mg-o"]) == {("relax", "READY"): 1, ("relax", "COMPLETED"): 1}
    assert site.failed() == []
