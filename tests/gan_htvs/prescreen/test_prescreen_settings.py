from __future__ import annotations

import pytest
from pydantic import ValidationError

from gan_htvs.campaign.model import Campaign
from gan_htvs.prescreen.prescreen_settings import PrescreenSettings

MG_O = {
    "name": "mg-o",
    "chemical_system": {"caps": {"Mg": 4, "O": 4}},
    "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
}


@pytest.mark.parametrize(
    "section",
    [
        {"arguments": {"model": "a"}},
        {"potential": "chgnet", "arguments": {"model": "a"}},
        {"confirm_arguments": {"model": "a"}},
        {"confirm": "none", "confirm_arguments": {"model": "a"}},
    ],
)
def test_arguments_without_a_potential_are_an_error(section):
    with pytest.raises(ValidationError, match="arguments are for a potential"):
        PrescreenSettings(**section)


def test_potential_must_not_confirm_itself():
    with pytest.raises(ValidationError, match=r"prescreen\.confirm: 'chgnet'"):
        Campaign.model_validate(MG_O | {"prescreen": {"confirm": "chgnet"}})
    sevennet = {
        "engines": {"energy": {"name": "sevennet-0"}},
        "prescreen": {"confirm": "chgnet"},
    }
    assert Campaign.model_validate(MG_O | sevennet).prescreen.confirm == "chgnet"
    models = {
        "potential": "MACE-MP-0",
        "arguments": {"model": "small"},
        "confirm": "MACE-MP-0",
        "confirm_arguments": {"model": "large"},
    }
    assert Campaign.model_validate(MG_O | {"prescreen": models}).prescreen.confirm == "MACE-MP-0"
