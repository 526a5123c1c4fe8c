"""Campaigns to start from, for chemical systems other than Mg-Mn-O."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

import pytest
import yaml
from typer.testing import CliRunner

from gan_htvs.campaign.campaign_file import parse_campaign, read_campaign
from gan_htvs.core.errors import UserError
from gan_htvs.core.funnel_stages import PUBLISHED_STAGES
from launchers.cli.main import app
from launchers.cli.options import FunnelTemplate
from launchers.cli.starting_campaign import starting_campaign

DOCS = Path(__file__).parents[3] / "docs"


def campaign_of(system, folder):
    path = folder / "campaign.yaml"
    path.write_text(starting_campaign(system))
    return parse_campaign(path)


def test_init_writes_a_campaign_of_the_system(tmp_path):
    result = CliRunner().invoke(app, ["init", "--system", "Ca-Mn-O", str(tmp_path)])
    assert result.exit_code == 0
    campaign = parse_campaign(tmp_path / "campaign.yaml")
    assert campaign.name == "ca-mn-o"
    assert campaign.chemical_system.elements == ("Ca", "Mn", "O")
    assert campaign.oxidation_states == {"Ca": (2, 2), "Mn": (2, 4), "O": (-2, -2)}
    assert [c.formula for c in campaign.compositions] == ["CaMnO2", "CaMnO3", "CaMn2O4"]
    assert [sum(counts) for counts in campaign.target_counts] == [4, 5, 7]
    assert campaign.sampling.proposers == ("random", "symmetric", "substitution")


@pytest.mark.parametrize("system", ["Mg-Mn-O", "Ca-Mn-O", "K-Mn-F"])
@pytest.mark.parametrize("template", FunnelTemplate)
def test_template_has_its_stages(tmp_path, system, template):
    folder = tmp_path / "search"
    arguments = ["init", "--system", system, "--template", template, str(folder)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    campaign = parse_campaign(folder / "campaign.yaml")
    properties = [stage.property for stage in campaign.stages]
    match template:
        case FunnelTemplate.PHOTOANODE:
            assert campaign.stages == PUBLISHED_STAGES
        case FunnelTemplate.CATHODE:
            assert properties == ["energy_above_hull", "oxidation_state_Mn"]
        case FunnelTemplate.HULL:
            assert set(properties) == {"energy_above_hull"}
    is_photoanode = template == FunnelTemplate.PHOTOANODE
    assert campaign.computes_gaps == is_photoanode
    assert (campaign.aqueous_conditions is not None) == is_photoanode


def test_centers_of_polyanions_have_their_most_frequent_oxidation_state(tmp_path):
    campaign = campaign_of("Ca-C-O", tmp_path)
    assert campaign.oxidation_states["C"] == (4, 4)
    assert campaign.compositions[0].formula == "CaCO3"


@pytest.mark.parametrize(
    ("system", "metal", "expected"),
    [
        ("Ni-O", "Ni", (2, 3)),
        ("Ag-O", "Ag", (1, 1)),
        ("U-O", "U", (4, 6)),
        ("La-O", "La", (3, 3)),
        ("Pt-O", "Pt", (2, 4)),
        ("Mg-Sn", "Sn", (-4, -4)),
    ],
)
def test_oxidation_states_are_those_of_crystals(system, metal, expected, tmp_path):
    assert campaign_of(system, tmp_path).oxidation_states[metal] == expected


@pytest.mark.parametrize(
    ("system", "element", "states", "formulas"),
    [
        ("V-O", "V", (3, 5), ["VO2", "V2O3", "V2O5"]),
        ("Na-S-O", "S", (6, 6), ["Na2SO4"]),
        ("Cu-O", "Cu", (1, 2), ["CuO", "Cu2O"]),
        ("Cr-O", "Cr", (2, 6), ["CrO", "CrO3", "Cr2O3", "Cr2O5"]),
        ("Mo-S", "Mo", (3, 6), ["MoS2", "MoS3", "Mo2S3", "Mo2S5"]),
        ("Ti-O-N", "N", (-3, -3), ["Ti2ON2", "Ti3O3N"]),
        ("Zn-Sn-S", "S", (-2, -2), ["ZnSnS2", "ZnSnS3"]),
        ("K-Mn-F", "Mn", (2, 4), ["KMnF3", "KMnF4", "KMnF5"]),
    ],
)
def test_compositions_have_the_most_frequent_states(system, element, states, formulas, tmp_path):
    campaign = campaign_of(system, tmp_path)
    assert campaign.oxidation_states[element] == states
    assert [composition.formula for composition in campaign.compositions] == formulas


@pytest.mark.parametrize(("system", "note"), [("Na-S-O", "S: [-2, -2]"), ("Ti-O-N", "N: [5, 5]")])
def test_anions_that_may_form_polyanions_are_noted(system, note):
    assert note in starting_campaign(system)
    assert note[:2] not in starting_campaign("Ca-Mn-O")


def test_uncovered_references_are_fetched_without_a_key(tmp_path):
    assert campaign_of("Ca-Mn-O", tmp_path).references.source == "optimade"
    comments = [line for line in starting_campaign("Ca-Mn-O").splitlines() if line[:1] == "#"]
    assert any("Ca-Mn-O" in line and "reference phases" in line for line in comments)


def test_tutorial_has_the_campaign_of_its_system():
    text = indent(starting_campaign("Ca-Mn-O"), "    ")
    assert text in (DOCS / "your-own-system.md").read_text(encoding="utf-8")


def test_covered_system_needs_no_other_file(tmp_path):
    (tmp_path / "campaign.yaml").write_text(starting_campaign("V-O"))
    campaign = read_campaign(tmp_path / "campaign.yaml")
    assert campaign.references.source == "auto"
    assert "reference phases" not in starting_campaign("V-O")


def test_shipped_system_is_the_demonstration():
    assert yaml.safe_load(starting_campaign("O-Mg-Mn"))["name"] == "mg-mn-o-demo"


@pytest.mark.parametrize("system", ["Na-Cl", "No-O", "K-Mn-F", "Ti-O-N", "Cu-Zn-Sn-S", "Na-P"])
def test_campaigns_of_other_systems_are_valid(system, tmp_path):
    assert campaign_of(system, tmp_path).target_counts


@pytest.mark.parametrize("system", ["Ca-Xx", "", "Ca-Mn", "Ar-O"])
def test_impossible_system_is_a_user_error(system):
    with pytest.raises(UserError, match="--system"):
        starting_campaign(system)
