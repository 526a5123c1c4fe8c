from __future__ import annotations

import pytest

from flows.campaign import CampaignFlows
from flows.routing import PRIORITY, categories_of, jobs_of
from gan_htvs.campaign.routing import Category
from gan_htvs.core.stages import Step
from tests.helpers import mg_o, proposal, relaxed, rocksalt

VASP = {"energy": {"name": "vasp"}, "vasp": {"max_afm": 0}}
NO_GAP = {"band_gap": {"name": "none"}}


def campaign_of(engines, proposers, routing):
    return mg_o(engines=engines, sampling={"proposers": proposers}, routing=routing)


def parts_of(campaign):
    """Return all flows of a campaign, with one survivor that is not relaxed yet."""
    flows = CampaignFlows(campaign)
    ((_, screens),) = flows.rounds
    survivors = [proposal("a", rocksalt())]
    return [*flows.shared.values(), *screens.values(), flows.candidates(survivors)]


@pytest.mark.parametrize("proposers", [["gan"], ["random"]])
@pytest.mark.parametrize("engines", [{}, VASP])
@pytest.mark.parametrize("routing", [{}, {"potential": "gpu"}, {"train": "hse", "other": "dft"}])
def test_categories_of_a_campaign_are_those_of_its_jobs(engines, proposers, routing):
    campaign = campaign_of(engines | NO_GAP, proposers, routing)
    configs = [job.config for part in parts_of(campaign) for job in jobs_of(part)]
    categories = {config.manager_config["_category"] for config in configs}
    assert categories == categories_of(campaign)


def test_later_steps_have_higher_priority_and_references_the_highest():
    campaign = campaign_of(NO_GAP, ["gan"], {})
    flows = CampaignFlows(campaign)
    for shared in flows.shared.values():
        for job in jobs_of(shared):
            assert job.config.manager_config["_priority"] >= PRIORITY[Step.REFERENCES]
    ((_, screens),) = flows.rounds
    jobs = jobs_of(screens["Mg2O2"])
    priorities = [job.config.manager_config["_priority"] for job in jobs]
    assert priorities == sorted(priorities)
    survivor = proposal("a", rocksalt())
    for job in jobs_of(flows.candidates([survivor])):
        assert max(priorities) < job.config.manager_config["_priority"]
        assert job.config.manager_config["_priority"] < PRIORITY[Step.REFERENCES]


def test_band_gap_jobs_have_the_category_of_hybrids():
    campaign = campaign_of({"band_gap": {"name": "gpaw"}}, ["random"], {"hybrid": "gpu"})
    (job,) = jobs_of(CampaignFlows(campaign).band_gap(relaxed()))
    assert job.config.manager_config["_category"] == Category.GPU.value
    assert job.metadata["campaign"] == campaign.name


def test_gaps_and_pre_relaxations_have_categories():
    assert Category.HSE in categories_of(campaign_of({}, ["random"], {}))
    pre_relaxed = VASP | {"vasp": {"pre_relaxation": "chgnet"}}
    assert Category.GPU in categories_of(campaign_of(pre_relaxed, ["random"], {"potential": "gpu"}))
