"""A whole campaign as one flow, and its parts."""

from __future__ import annotations

import pytest
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore

from flows.campaign import CampaignFlows, CampaignMaker, compositions_of
from flows.routing import jobs_of
from gan_htvs.core.candidate import Verdict
from gan_htvs.core.stages import Stage
from tests.helpers import mg_o, relaxed


def test_run_locally_runs_a_whole_campaign():
    campaign = mg_o()
    flow = CampaignMaker.of(campaign).make(campaign)
    store = JobStore(MemoryStore())
    run_locally(flow, store=store, log=False, ensure_success=True)
    outputs = {document["name"]: document for document in store.query({}, load=True)}
    sampled = outputs["sample Mg2O2 random"]["output"]["proposals"]
    screened = outputs["prescreen"]["output"]["screened"]
    assert len(sampled) == len(screened) == 4
    ids = {each["candidate_id"] for each in sampled}
    assert {each["proposal"]["candidate_id"] for each in screened} == ids
    verdicts = flow.output["Mg2O2"].resolve(store)
    survivors = outputs["select"]["output"]["survivors"]
    assert len(survivors) == len(verdicts) > 0
    assert {verdict.candidate_id for verdict in verdicts} <= ids
    for verdict in verdicts:
        assert isinstance(verdict, Verdict)
        assert verdict.stage is not Stage.FAILED
        assert verdict.relaxed.level_of_theory == "CHGNet-0.3.0"
        assert verdict.assessment.energy_above_hull <= 0.2
        assert verdict.origin.proposer == "random"
    references = outputs["references"]["output"]["entries"]
    assert {entry["name"] for entry in references} >= {"Mg hcp", "MgO periclase", "O2"}


def test_the_flow_of_a_campaign_is_new_each_time():
    flows = [CampaignMaker.of(mg_o()).make(mg_o()) for _ in range(2)]
    first, second = ({job.uuid for job in jobs_of(flow)} for flow in flows)
    assert not first & second, "jobflow-remote refuses a job that its database holds"
    assert all(not job.config.manager_config for job in jobs_of(flows[0]))


def test_band_gaps_of_a_queued_campaign_are_named_by_content():
    campaign = mg_o(engines={"band_gap": {"name": "gpaw"}})
    named = {CampaignFlows(campaign).band_gap(relaxed()).uuid for _ in range(2)}
    assert len(named) == 1
    maker = CampaignMaker.of(campaign).composition_maker.candidate_maker.stability_maker
    anew = {maker.band_gap_jobs(relaxed()).uuid for _ in range(2)}
    assert len(anew | named) == 3


def uuids(campaign) -> set[str]:
    parts = CampaignFlows(campaign)
    flows = [*parts.shared.values(), *(parts.screen(each) for each in compositions_of(campaign))]
    return {job.uuid for flow in flows for job in jobs_of(flow)}


def test_the_same_campaign_has_the_same_jobs():
    assert uuids(mg_o()) == uuids(mg_o())
    strict = {"energy": {"fmax": 0.01}, "band_gap": {"name": "none"}}
    assert len(uuids(mg_o()) & uuids(mg_o(engines=strict))) == 1, "only the sample"


def test_another_campaign_shares_the_references_alone():
    shared = {job.uuid for part in CampaignFlows(mg_o()).shared.values() for job in jobs_of(part)}
    assert uuids(mg_o()) & uuids(mg_o(name="second")) == shared


def test_another_composition_or_proposer_repeats_nothing():
    before = uuids(mg_o())
    assert before < uuids(mg_o(compositions=["Mg2O2", "Mg4O4"]))
    sampling = {"proposers": ["random", "symmetric"], "structures_per_composition": 4}
    assert len(before & uuids(mg_o(sampling=sampling))) == len(before) - 1, "all but the selection"


@pytest.mark.parametrize(("n_structures", "n_batches"), [(100, 1), (120, 2), (300, 3)])
def test_a_composition_has_one_sample_and_one_selection(n_structures, n_batches):
    sampling = {"proposers": ["random"], "structures_per_composition": n_structures}
    names = [job.name for job in CampaignFlows(mg_o(sampling=sampling)).screen("Mg2O2").jobs]
    assert names == ["sample Mg2O2 random", *["prescreen"] * n_batches, "select"]


def test_every_job_has_an_owner_a_step_and_a_worker():
    parts = CampaignFlows(mg_o())
    jobs = [
        job for flow in (*parts.shared.values(), parts.screen("Mg2O2")) for job in jobs_of(flow)
    ]
    for job in jobs:
        assert {"campaign", "step", "worker"} <= job.metadata.keys()
        assert job.config.manager_config["_priority"] > 0 or job.metadata["step"] == "propose"
