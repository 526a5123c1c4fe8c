"""Listing and retry of failed calculations."""

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
    """A launchpad with ended calculations and their outputs."""

    def __init__(self, databases):
        self.databases = databases
        self.launchpad = databases.launchpad()
        self.launchpad.initialize()

    def add(self, uuid, step, candidate, *, owner="mg-o", failed_in=None, state="COMPLETED"):
        job_ = labeled(add(1, 2), step, owner, candidate_id=candidate)
        job_.set_uuid(uuid)
        submit(self.launchpad, [Unit(uuid, Flow([job_]))], CAMPAIGN)
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

    def store_candidate(self, candidate, stage, missing_property=None):
        document = {"candidate_id": candidate, "campaign": "mg-o", "stage": stage}
        with self.databases.store("candidates", key="candidate_id") as candidates:
            candidates.update([document | {"missing_property": missing_property}])

    def failed(self):
        return [calculation.step for calculation in failed_calculations(self.databases, CAMPAIGN)]


@pytest.fixture
def site(launchpad_file):
    with open_databases(launchpad_file) as databases:
        yield Site(databases)


def test_first_failure_of_a_failed_candidate_is_listed(site):
    site.add("FM relax 1", Step.RELAX, "a", failed_in="FM relax 1")
    site.add("FM relax 2", Step.RELAX, "a", failed_in="FM relax 1")
    site.add("FM static", Step.STATIC, "a", failed_in="FM relax 1")
    assert site.failed() == []
    site.store_candidate("a", "failed")
    assert site.failed() == ["FM relax 1"]


def test_failed_magnetic_order_of_a_successful_candidate_is_listed(site):
    site.add("FM relax 1", Step.RELAX, "a", failed_in="FM relax 1")
    site.add("FM relax 2", Step.RELAX, "a", failed_in="FM relax 1")
    site.add("AFM relax 1", Step.RELAX, "a")
    site.store_candidate("a", "generated")
    assert site.failed() == []
    for stage in ("relaxed", "synthesizable", "pourbaix_metastable", "photoanode"):
        site.store_candidate("a", stage)
        assert site.failed() == ["FM relax 1"]
    site.store_candidate("a", "rejected")
    assert site.failed() == []


def test_failed_hybrid_is_listed_if_the_candidate_needs_a_gap(site):
    site.add("hybrid", Step.HYBRID, "a", failed_in="hybrid")
    site.store_candidate("a", "synthesizable")
    assert site.failed() == []
    site.store_candidate("a", "pourbaix_metastable", missing_property="band_gap")
    assert site.failed() == ["hybrid"]
    site.store_candidate("a", "photoanode", missing_property=None)
    assert site.failed() == []


def test_failed_reference_phase_is_listed_until_the_reference_set_is_stored(site):
    site.add("FM relax 1", Step.RELAX, "phase", owner=REFERENCES, failed_in="FM relax 1")
    assert site.failed() == ["FM relax 1"]
    with site.databases.store("outputs", key="uuid") as outputs:
        outputs.update([{"uuid": REFERENCES, "metadata": {}, "output": {}}])
    assert site.failed() == []


def test_fizzled_jobs_are_listed_and_running_jobs_are_not(site):
    site.add("relax", Step.RELAX, "a", state="FIZZLED")
    site.add("running", Step.RELAX, "b", state="RUNNING", failed_in="running")
    site.store_candidate("a", "failed")
    site.store_candidate("b", "failed")
    (calculation,) = failed_calculations(site.databases, CAMPAIGN)
    assert calculation.candidate_id == "a"
    assert calculation.is_retryable


def test_fizzled_prescreen_is_queued_again(site):
    site.add("batch", Step.PRESCREEN, "", state="FIZZLED")
    site.add("relax", Step.RELAX, "a", state="FIZZLED")
    failed = raised_jobs(site.launchpad, CAMPAIGN)
    assert len(failed) == 1
    queue_again(site.launchpad, failed)
    assert site.launchpad.states(["mg-o"]) == {("prescreen", "READY"): 1, ("relax", "FIZZLED"): 1}


def test_only_failed_calculations_are_queued_again(site):
    site.add("FM relax 1", Step.RELAX, "a", failed_in="FM relax 1")
    site.add("another", Step.RELAX, "b")
    site.store_candidate("a", "failed")
    queue_again(site.launchpad, failed_calculations(site.databases, CAMPAIGN))
    assert site.launchpad.states(["mg-o"]) == {("relax", "READY"): 1, ("relax", "COMPLETED"): 1}
    assert site.failed() == []


ENERGIES = []
"""Results of the next relaxations, eV/atom."""


@dataclass
class ListedEnergyMaker(EnergyMaker):
    """Returns energies from a list."""

    level_of_theory: str = CHGNET

    def make(self, structure):
        return mark(self.relax(structure), Step.RELAX, "potential")

    @job
    def relax(self, structure):
        return relaxed(structure, ENERGIES.pop(0))


@dataclass
class EnergyAsGapMaker(BandGapMaker):
    """Returns the negative energy of a structure as its band gap."""

    def make(self, relaxed, previous=None):
        return mark(self.compute(relaxed), Step.BAND_GAP, "hybrid")

    @job
    def compute(self, relaxed):
        return BandGapResult(band_gap=-relaxed.energy_per_atom)


def test_repeated_candidate_is_evaluated_with_its_last_energy(site, monkeypatch, tmp_path):
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
    assert run() == (-6.0, None)  # no longer stable enough for a band gap
    assert site.launchpad.states(["mg-o"]) == {
        ("relax", "COMPLETED"): 1,
        ("gate", "COMPLETED"): 1,
        ("release", "COMPLETED"): 1,
    }
