from __future__ import annotations

from gan_htvs.campaign import Campaign
from launchers.database import open_databases
from launchers.submission import submit_campaign


def test_who_was_judged_and_what_packs_noted_is_found_by_index(launchpad_file):
    search = Campaign.model_validate(
        {
            "name": "mg-o",
            "chemical_system": {"caps": {"Mg": 1, "O": 1}},
            "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
            "sampling": {"proposers": ["random"], "structures_per_composition": 1},
        }
    )
    with open_databases(launchpad_file) as databases:
        submit_campaign(search, databases)
        indexes = databases.launchpad().db["outputs"].index_information().values()
        keys = [[field for field, _ in index["key"]] for index in indexes]
    assert ["metadata.campaign", "metadata.step", "metadata.candidate_id"] in keys
    assert ["metadata.campaign", "metadata.note", "metadata.formula"] in keys
