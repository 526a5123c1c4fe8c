"""Compositions of campaign.yaml and the cells that they stand for."""

from __future__ import annotations

import re
from importlib import resources

import pytest
import yaml

from gan_htvs.campaign.campaign_file import parse_campaign, validate_campaign
from gan_htvs.campaign.compositions import CompositionSettings, describe_cells
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.errors import UserError

LI_MN_O = ChemicalSystem(caps={"Li": 8, "Mn": 8, "O": 16})
SETTINGS = {
    "name": "li-mn-o",
    "chemical_system": LI_MN_O.model_dump(),
    "oxidation_states": {"Li": [1, 1], "Mn": [2, 4], "O": [-2, -2]},
}


def campaign(**changes):
    return validate_campaign(SETTINGS | changes, source="campaign.yaml")


def cells_of(**changes):
    target = campaign(**changes)
    return [target.chemical_system.formula(counts) for counts in target.target_counts]


def template(name):
    text = (resources.files("launchers.cli") / "templates" / name).read_text()
    return yaml.safe_load(text)


def test_reduced_formula_is_searched_in_all_cells_within_the_caps():
    cells = ["LiMn2O4", "Li2Mn4O8", "Li3Mn6O12", "Li4Mn8O16"]
    assert cells_of(compositions=["LiMn2O4"]) == cells
    assert cells_of(compositions=["O4 Mn2 Li"], max_atoms=20) == cells[:2]


def test_other_formula_names_its_cell():
    assert cells_of(compositions=["Li2Mn4O8"], max_atoms=7) == ["Li2Mn4O8"]


@pytest.mark.parametrize(
    ("atoms_per_cell", "cells"), [(7, ["LiMn2O4"]), ([28, 7], ["Li4Mn8O16", "LiMn2O4"])]
)
def test_atoms_per_cell_chooses_cells(atoms_per_cell, cells):
    composition = {"formula": "LiMn2O4", "atoms_per_cell": atoms_per_cell}
    assert cells_of(compositions=[composition], max_atoms=5) == cells


def test_each_cell_is_searched_once():
    cells = cells_of(compositions=["Li2Mn4O8", "LiMn2O4", "Li2Mn4O8", "LiMnO2"], max_atoms=14)
    assert cells == ["Li2Mn4O8", "LiMn2O4", "LiMnO2", "Li2Mn2O4", "Li3Mn3O6"]


def test_settings_of_a_campaign_can_be_read_again():
    first = campaign(compositions=["LiMnO2", {"formula": "LiMn2O4", "atoms_per_cell": 7}])
    assert validate_campaign(first.model_dump(mode="json"), source="stored") == first


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"compositions": ["LiMn9O12"]}, ["'LiMn9O12'", "9 Mn", "8", "chemical_system.caps.Mn"]),
        (
            {"compositions": [{"formula": "LiMn2O4", "atoms_per_cell": [7, 70]}]},
            ["'LiMn2O4'", "10 Li", "8", "chemical_system.caps.Li"],
        ),
        ({"compositions": ["LiMn2O4"], "max_atoms": 6}, ["'LiMn2O4'", "7 atoms", "max_atoms 6"]),
        (
            {"compositions": [{"formula": "LiMn2O4", "atoms_per_cell": 10}]},
            ["'LiMn2O4'", "atoms_per_cell 10", "7 atoms"],
        ),
        ({"compositions": ["LiMnO4"]}, ["'LiMnO4'", "oxidation_states"]),
        ({"compositions": [False]}, ["compositions.0", "False", "quote"]),
        ({"compositions": [["LiMnO2"]]}, ["compositions.0", "['LiMnO2']"]),
        ({"compositions": [{"formula": 1e3}]}, ["compositions.0.formula", "quote", "1000.0"]),
        ({"compositions": [{"formla": "LiMnO2"}]}, ["compositions.0.formla", "'formula'"]),
        ({"compositions": [{"atoms_per_cell": 4}]}, ["compositions.0.formula", "required"]),
    ],
)
def test_impossible_compositions_are_user_errors(changes, parts):
    with pytest.raises(UserError) as error:
        campaign(**changes)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize("symbol", ["No", "Y", "N"])
def test_elements_are_not_truth_values(tmp_path, symbol):
    path = tmp_path / "campaign.yaml"
    path.write_text(
        f"name: oxide\nchemical_system: {{caps: {{{symbol}: 2, O: 3}}}}\n"
        f"oxidation_states: {{{symbol}: [3, 3], O: [-2, -2]}}\ncompositions: [{symbol}2O3]\n"
    )
    assert parse_campaign(path).chemical_system.elements == (symbol, "O")
    path.write_text(f"%YAML 1.1\n---\n{path.read_text()}")
    with pytest.raises(UserError, match=r"chemical_system\.caps: .*quote.*(True|False)"):
        parse_campaign(path)


def test_description_groups_cells_by_formula():
    cells = CompositionSettings(formula="LiMn2O4").cells(LI_MN_O, 21)
    assert describe_cells(LI_MN_O, [(1, 1, 2), *cells]) == (
        "LiMnO2 with 4 atoms, LiMn2O4 with 7, 14 and 21 atoms"
    )


def test_description_counts_many_formulas():
    cells = campaign(max_atoms=12).target_counts
    assert re.fullmatch(
        r"\d+ of \d+ formulas, with \d+ to 12 atoms", describe_cells(LI_MN_O, cells)
    )


def test_cells_of_the_shipped_campaigns():
    def cells(name):
        target = validate_campaign(template(name), source=name)
        return [target.chemical_system.formula(counts) for counts in target.target_counts]

    assert cells("demo.yaml") == ["MgMn2O4", "Mg2Mn2O6", "Mg2MnO4"]
    assert set(cells("generator.yaml")) == {
        *("MgMn2O4", "Mg2MnO4", "Mg2Mn2O5", "Mg2Mn2O6", "MgMn3O6", "MgMn4O8", "Mg2Mn3O8"),
        *("Mg3Mn3O8", "Mg4Mn2O8", "Mg2Mn4O8"),
    }
