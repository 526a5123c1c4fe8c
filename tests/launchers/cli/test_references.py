"""The command that fetches and lists reference phases."""

from __future__ import annotations

import json

import pytest
import yaml
from pymatgen.core import Lattice, Structure
from typer.testing import CliRunner

from launchers.cli.main import app
from tests.helpers import rocksalt_cell

CALCIUM = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.588), ["Ca"], [[0, 0, 0]])


@pytest.fixture
def campaign_file(tmp_path):
    phases = {"Ca fcc": CALCIUM.as_dict(), "CaO lime": rocksalt_cell("Ca", 4.811).as_dict()}
    (tmp_path / "phases.json").write_text(json.dumps(phases))
    document = {
        "name": "lime",
        "chemical_system": {"caps": {"Ca": 2, "O": 2}},
        "oxidation_states": {"Ca": [2, 2], "O": [-2, -2]},
        "references": {"source": "file", "path": "phases.json"},
    }
    path = tmp_path / "campaign.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def call(*words):
    return CliRunner().invoke(app, ["references", *map(str, words)], env={"COLUMNS": "200"})


def test_json_has_space_groups_and_sources(campaign_file):
    document = json.loads(call(campaign_file, "--json").stdout)
    assert document["source"] == "file"
    assert document["uncovered_subsystems"] == []
    phases = {phase["name"]: phase for phase in document["phases"]}
    assert list(phases) == ["O2", "Ca fcc", "CaO lime"]
    assert phases["CaO lime"]["space_group"] == "Fm-3m"
    assert phases["CaO lime"]["atoms"] == 2
    assert "phases.json" in phases["CaO lime"]["source"]


def test_table(campaign_file):
    result = call(campaign_file)
    assert result.exit_code == 0
    assert "CaO lime" in result.stdout
    assert f"3 reference phases of Ca-O from {campaign_file.parent / 'phases.json'}" in (
        result.stdout.replace("\n", "")
    )


def test_subsystem_without_phases_is_a_note(campaign_file):
    (campaign_file.parent / "phases.json").write_text(json.dumps({"Ca": CALCIUM.as_dict()}))
    assert "no compound of Ca-O" in call(campaign_file).stderr


def test_missing_phases_are_a_user_error(campaign_file):
    document = yaml.safe_load(campaign_file.read_text())
    del document["references"]
    campaign_file.write_text(yaml.safe_dump(document))
    result = call(campaign_file)
    assert result.exit_code == 2
    assert "source: optimade" in result.stderr
