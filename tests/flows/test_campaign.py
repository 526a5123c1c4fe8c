"""A whole campaign as one flow, and its parts."""

from __future__ import annotations

import numpy as np
import pytest
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore

from flows.campaign import CampaignFlows, CampaignMaker
from flows.routing import jobs_of
from gan_htvs.core.candidate import Screened, Verdict
from gan_htvs.core.document import decode
from gan_htvs.core.stages import Stage
from tests.helpers import mg_o, relaxed


def test_campaign_runs_with_run_locally():
    campaign = mg_o()
    flow = CampaignMaker.of(campaign).make(campaign)
    store = JobStore(MemoryStore())
    run_locally(flow, store=store, log=False, ensure_success=True)
    outputs = {document["name"]: document for document in store.query({}, load=True)}
    sampled = outputs["sample Mg2O2 random"]["output"]["proposals"]
    screened = outputs["prescreen"]["output"]["proposals"]
    assert len(sampled) == len(screened) == 4
    ids = {proposal["candidate_id"] for proposal in sampled}
    assert {proposal["candidate_id"] for proposal in screened} == ids
    verdicts = flow.output["Mg2O2"].resolve(store)
    survivors = Screened.model_validate(decode(outputs["select"]["output"])).survivors
    assert len(survivors) == len(verdicts) > 0
    assert {verdict.candidate_id for verdict in verdicts} <= ids
    for verdict in verdicts:
        assert isinstance(verdict, Verdict)
        assert verdict.stage != Stage.FAILED
        assert verdict.relaxed.level_of_theory == "CHGNet-0.3.0"
        assert verdict.assessment.energy_above_hull <= 0.2
        assert verdict.origin.proposer == "random"
    references = outputs["references"]["output"]["entries"]
    assert {entry["name"] for entry in references} >= {"Mg hcp", "MgO periclase", "O2"}


def test_limits_of_geometry_are_passed_to_all_parts():
    geometry = {"volume_per_atom": [5, 15], "min_distances": {"Mg-O": 1.9}}
    campaign = mg_o(
        geometry=geometry, prescreen={"confirm": "none"}, sampling={"proposers": ["random", "gan"]}
    )
    maker = CampaignMaker.of(campaign)
    composition = maker.composition_maker
    parts = [
        maker.train_maker,
        *composition.sample_makers,
        composition.prescreen_maker,
        composition.candidate_maker.energy_maker,
        composition.candidate_maker.stability_maker,
    ]
    assert [part.geometry for part in parts] == [campaign.geometry] * 6
    assert campaign.geometry != mg_o().geometry


def test_lowest_energy_is_passed_to_prescreen_and_stability(tmp_path):
    def limits(**settings):
        parts = CampaignMaker.of(mg_o(prescreen={"confirm": "none"}, **settings)).composition_maker
        stability = parts.candidate_maker.stability_maker
        return (
            parts.prescreen_maker.lowest_decomposition_energy,
            stability.lowest_decomposition_energy,
        )

    assert limits() == (None, None)
    assert limits(references={"lowest_decomposition_energy": -0.2}) == (-0.2, -0.2)
    own = {"source": "folder", "path": tmp_path}
    assert limits(references=own) == (-0.3, -0.3)


def test_limits_of_geometry_change_the_samples():
    dense = mg_o(geometry={"target_volume_per_atom": 9.0})
    store = JobStore(MemoryStore())
    volumes, streams = [], set()
    for campaign in (mg_o(), dense):
        (maker,) = CampaignMaker.of(campaign).composition_maker.sample_makers
        job = maker.make("Mg2O2", 2)
        run_locally(job, store=store, log=False, ensure_success=True)
        output = decode(store.get_output(job.uuid, load=True))
        volumes.append(np.mean([proposal.structure.volume for proposal in output.proposals]))
        streams.add(output.stream)
    assert volumes[1] < volumes[0]
    assert len(streams) == 2


def test_each_campaign_flow_has_new_uuids():
    flows = [CampaignMaker.of(mg_o()).make(mg_o()) for _ in range(2)]
    first, second = ({job.uuid for job in jobs_of(flow)} for flow in flows)
    assert not first & second, "jobflow-remote refuses existing uuids"
    assert all(not job.config.manager_config for job in jobs_of(flows[0]))


def test_band_gaps_of_queued_campaigns_have_content_uuids():
    campaign = mg_o(engines={"band_gap": {"name": "gpaw"}})
    content_uuids = {CampaignFlows(campaign).band_gap(relaxed()).uuid for _ in range(2)}
    assert len(content_uuids) == 1
    maker = CampaignMaker.of(campaign).composition_maker.candidate_maker.stability_maker
    random_uuids = {maker.band_gap_jobs(relaxed()).uuid for _ in range(2)}
    assert len(random_uuids | content_uuids) == 3


def uuids(campaign) -> set[str]:
    parts = CampaignFlows(campaign)
    screens = (flow for _, screens in parts.rounds for flow in screens.values())
    flows = [*parts.shared.values(), *screens]
    return {job.uuid for flow in flows for job in jobs_of(flow)}


def test_equal_campaigns_have_equal_uuids():
    assert uuids(mg_o()) == uuids(mg_o())
    strict = {"energy": {"fmax": 0.01}, "band_gap": {"name": "none"}}
    assert len(uuids(mg_o()) & uuids(mg_o(engines=strict))) == 1, "only the sampling job"


def test_campaigns_share_only_references():
    shared = {job.uuid for part in CampaignFlows(mg_o()).shared.values() for job in jobs_of(part)}
    assert uuids(mg_o()) & uuids(mg_o(name="second")) == shared


def test_added_composition_or_proposer_keeps_existing_uuids():
    before = uuids(mg_o())
    assert before < uuids(mg_o(compositions=["Mg2O2", "Mg4O4"]))
    sampling = {"proposers": ["random", "symmetric"], "structures_per_composition": 4}
    assert len(before & uuids(mg_o(sampling=sampling))) == len(before) - 1, "all but the selection"


@pytest.mark.parametrize(("n_structures", "n_batches"), [(100, 1), (120, 2), (300, 3)])
def test_composition_has_one_sample_and_one_selection_job(n_structures, n_batches):
    sampling = {"proposers": ["random"], "structures_per_composition": n_structures}
    ((_, screens),) = CampaignFlows(mg_o(sampling=sampling)).rounds
    names = [job.name for job in screens["Mg2O2"].jobs]
    assert names == ["sample Mg2O2 random", *["prescreen"] * n_batches, "select"]


def test_every_job_has_owner_step_and_worker():
    parts = CampaignFlows(mg_o())
    ((_, screens),) = parts.rounds
    jobs = [job for flow in (*parts.shared.values(), *screens.values()) for job in jobs_of(flow)]
    for job in jobs:
        assert {"campaign", "step", "worker"} <= job.metadata.keys()
        assert job.config.manager_config["_priority"] > 0 or job.metadata["step"] == "propose"
