"""The cells that a campaign searches are printed before a run."""

from __future__ import annotations

import json

import pytest
import yaml
from typer.testing import CliRunner

from gan_htvs.campaign.model import Campaign
from launchers.cli.campaign_summary import print_heading
from launchers.cli.main import app

CAMPAIGN = {
    "name": "search",
    "chemical_system": {"caps": {"Mg": 4, "O": 4}},
    "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
    "compositions": [{"formula": "MgO", "atoms_per_cell": [2, 8]}],
    "sampling": {"proposers": ["random"], "structures_per_composition": 1},
    "engines": {"band_gap": {"name": "none"}},
}
CELLS = "MgO with 2 and 8 atoms"


@pytest.fixture
def command(tmp_path, launchpad_file, monkeypatch):
    """Return a function that runs a command on the campaign."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(CAMPAIGN))

    def call(name, *options):
        arguments = [name, "campaign.yaml", "-l", str(launchpad_file), *options]
        return CliRunner().invoke(app, arguments)

    return call


def test_plan_has_the_cells(command):
    assert CELLS in command("submit", "--dry-run").stdout


def test_doctor_has_the_cells(command):
    checks = json.loads(command("doctor", "--json").stdout)
    (check,) = (check for check in checks if check["where"] == "cells searched")
    assert (check["severity"], check["what"]) == ("ok", CELLS)


def test_heading_of_a_run_has_the_cells(capsys):
    print_heading(Campaign.model_validate(CAMPAIGN))
    assert CELLS in capsys.readouterr().out
