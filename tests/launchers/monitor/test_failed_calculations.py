"""Which failed calculations somebody waits for."""

from __future__ import annotations

from dataclasses import dataclass

import jobflow
import pytest
from fireworks import FWorker
from fireworks.core.rocket_launcher import rapidfire
from jobflow import Flow, job
from monty.json import jsanitize

from flows.band_gap import BandGapMaker
from flows.candidate import CandidateMaker, StabilityMaker
from flows.energy import EnergyMaker
from flows.naming import name_by_content
from flows.routing import label, mark
from gan_htvs.campaign.model import Campaign
from gan_htvs.core.band_gap import BandGapResult
from gan_htvs.core.document import decode
from gan_htvs.core.failure import CalculationFailure
from gan_htvs.core.stages import Step
from gan_htvs.results.builders.job_outputs import latest_gates, outputs_by_uuid
from launchers.launchpad.database import open_databases
from launchers.launchpad.feeder import submit
from launchers.launchpad.units import CampaignUnits, Unit
from launchers.monitor.failed_calculations import (
    FailedCalculation,
    failed_calculations,
    queue_again,
    raised_jobs,
)
from tests.helpers import CHGNET, proposal, references, relaxed, rocksalt
from tests.jobs import add, labeled

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


class Site:
    """A launchpad with calculations that have ended, and what they left."""

    def __init__(self, databases):
        self.databases = databases
        self.launchpad = databases.launchpad()
        self.launchpad.initialize()

    def leave(self, uuid, step, candidate, *, owner="mg-o", failed_in=None, state="COMPLETED"):
        ended = labeled(add(1, 2), step, owner, candidate_id=candidate)
        ended.set_uuid(uuid)
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


def test_reference_phases_wait_until_the_hull_is_there(site):
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
    site.leave("batch", Step.PRESCREEN, "", state="FIZZLED")
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


ENERGIES = []
"""What the next relaxations find, eV/atom."""


@dataclass
class ListedEnergyMaker(EnergyMaker):
    """Finds the energies that a list has."""

    level_of_theory: str = CHGNET

    def make(self, structure):
        return mark(self.relax(structure), Step.RELAX, "potential")

    @job
    def relax(self, structure):
        return relaxed(structure, ENERGIES.pop(0))


@dataclass
class EnergyAsGapMaker(BandGapMaker):
    """Takes the energy of a structure for its band gap."""

    def make(self, relaxed, previous=None):
        return mark(self.compute(relaxed), Step.BAND_GAP, "hybrid")

    @job
    def compute(self, relaxed):
        return BandGapResult(band_gap=-relaxed.energy_per_atom)


def test_a_candidate_that_is_queued_again_is_judged_by_its_last_energy(site, monkeypatch, tmp_path):
    monkeypatch.setattr(jobflow.SETTINGS, "JOB_STORE", site.databases.job_store())
    stability_maker = StabilityMaker(band_gap_maker=EnergyAsGapMaker())
    maker = CandidateMaker(energy_maker=ListedEnergyMaker(), stability_maker=stability_maker)
    candidate = name_by_content(maker.make(proposal("a", rocksalt()), references()))
    gate = candidate.output.uuid
    label(candidate, "mg-o")
    submit(site.launchpad, [Unit("a", candidate, releases="mg-o")], CAMPAIGN)

    def run():
        rapidfire(site.launchpad, FWorker(), m_dir=str(tmp_path), strm_lvl="CRITICAL")
        with site.databases.store("outputs", key="uuid") as outputs:
            latest = latest_gates(outputs, ["mg-o"], [])
            (verdict,) = outputs_by_uuid(outputs, [latest["a"]["uuid"]]).values()
        assert latest["a"]["uuid"] == gate
        verdict = decode(verdict)
        return verdict.relaxed.energy_per_atom, verdict.band_gap and verdict.band_gap.band_gap

    ENERGIES[:] = [-6.32, -6.33, -6.0]
    assert run() == (-6.32, 6.32)
    relaxing = site.launchpad.fireworks.find_one({"spec.step": "relax"})["fw_id"]
    again = FailedCalculation(relaxing, "a", "relax", "stopped", None)
    queue_again(site.launchpad, [again])
    assert run() == (-6.33, 6.33)
    queue_again(site.launchpad, [again])
    assert run() == (-6.0, None)  # not stable enough for a band gap any more
    assert site.launchpad.states(["mg-o"]) == {
        ("relax", "COMPLETED"): 1,
        ("gate", "COMPLETED"): 1,
        ("release", "COMPLETED"): 1,
    }
