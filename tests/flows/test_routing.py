from __future__ import annotations

import pytest

from flows.campaign import CampaignUnits
from flows.routing import categories_of
from gan_htvs.campaign import Campaign
from gan_htvs.routing import Category

VASP = {"energy": {"name": "vasp"}, "vasp": {"max_afm": 0}}


def campaign_of(engines, proposers, routing):
    return Campaign.model_validate(
        {
            "name": "search",
            "chemical_system": {"caps": {"Mg": 2, "O": 2}},
            "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
            "sampling": {"proposers": proposers},
            "engines": engines,
            "routing": routing,
        }
    )


@pytest.mark.parametrize("proposers", [["gan"], ["random"]])
@pytest.mark.parametrize("engines", [{}, VASP])
@pytest.mark.parametrize("routing", [{}, {"potential": "gpu"}, {"train": "hse", "other": "dft"}])
def test_the_categories_of_a_campaign_are_those_of_its_jobs(engines, proposers, routing):
    campaign = campaign_of(engines | {"band_gap": {"name": "none"}}, proposers, routing)
    categories = {
        job.config.manager_config["_category"]
        for unit in CampaignUnits(campaign).units()
        for job, _ in unit.flow.iterflow()
    }
    assert categories == categories_of(campaign)


def test_gaps_and_pre_relaxations_have_workers_too():
    assert Category.HSE in categories_of(campaign_of({}, ["random"], {}))
    pre_relaxed = VASP | {"vasp": {"pre_relaxation": "chgnet"}}
    assert Category.GPU in categories_of(campaign_of(pre_relaxed, ["random"], {"potential": "gpu"}))
