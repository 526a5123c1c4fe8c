"""A rehearsal in a separate database: failures are stored, and only those are repeated."""

from __future__ import annotations

import json

import pytest
import yaml
from typer.testing import CliRunner

from gan_htvs.thermodynamics.references import reference_phases
from launchers.cli.main import app
from launchers.launchpad.database import open_databases
from tests.helpers import LOOSE_STAGES, write_fetched_phases

LAUNCHPAD = "gan_htvs_data/rehearsal/mg-o/my_launchpad.yaml"

CAMPAIGN = {
    "name": "mg-o",
    "chemical_system": {"caps": {"Mg": 2, "O": 2}},
    "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
    "compositions": ["Mg2O2"],
    "sampling": {"proposers": ["substitution"], "structures_per_composition": 300},
    "prescreen": None,
    "references": {
        "source": "materials_project",
        "path": "phases.json",
        "energies": "materials_project",
    },
    "stages": list(LOOSE_STAGES),
    "engines": {"energy": {"name": "vasp"}, "band_gap": {"name": "none"}},
}


@pytest.fixture
def folder(tmp_path):
    phases = [phase for phase in reference_phases(["Mg", "O"]) if phase.formula != "MgO2"]
    write_fetched_phases(tmp_path / "phases.json", phases, ["Mg", "O"])
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(CAMPAIGN))
    return tmp_path


@pytest.fixture
def call(folder, monkeypatch):
    """Run a command in this process; VASP and the workers run in others."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GAN_HTVS_SCRATCH", str(folder / "scratch"))
    return lambda *arguments: CliRunner().invoke(app, arguments)


@pytest.fixture
def rehearse(call):
    def invoke(n_structures, *options):
        arguments = ("campaign.yaml", "--structures", str(n_structures), "--workers", "1")
        result = call("rehearse", *arguments, *options)
        assert result.exit_code == 0, result.stderr
        return result.stdout

    return invoke


@pytest.fixture
def candidates(call):
    return lambda: json.loads(
        call("candidates", "--references", "--format", "json", "-l", LAUNCHPAD).stdout
    )


def calculations(output):
    """Return the numbers in the table of calculations by stage."""
    rows = [line.split() for line in output.partition("Calculations")[2].splitlines()]
    return {row[0]: [int(cell) for cell in row[1:]] for row in rows if row and row[-1].isdigit()}


def launches(folder):
    """Return the number of launches of each job, except releases, by candidate and name."""
    with open_databases(folder / LAUNCHPAD) as databases:
        fireworks = databases.launchpad().fireworks
        return {
            (firework["spec"].get("candidate_id"), firework["name"]): len(firework["launches"])
            + len(firework["archived_launches"])
            for firework in fireworks.find({"spec.step": {"$ne": "release"}})
        }


def test_failures_are_stored_and_only_those_are_repeated(folder, call, rehearse, candidates):
    table = calculations(rehearse(1))
    # One candidate and two reference phases, whose published energies are not used.
    assert table["relax"][:3] == [6, 0, 0]
    assert table["relax"][3] > 6
    assert table["static"] == [3, 0, 0, 3]
    assert table["hybrid"] == [0, 0, 0, 0]
    assert not (folder / "my_launchpad.yaml").exists()
    rows = candidates()
    assert {row["level_of_theory"] for row in rows} == {"PBE(+U)+MP2020"}
    assert {row["stage"] for row in rows} == {"pourbaix_metastable"}
    before = launches(folder)

    table = calculations(rehearse(2, "--fail", "killed"))
    assert table["relax"][:2] == [7, 1]
    rows = candidates()
    assert len(rows) == 4
    (failed,) = [row for row in rows if row["stage"] == "failed"]
    assert failed["reason"].startswith("NM relax 1: vasprun.xml is missing or cut off")
    assert "launcher_" in failed["failure"]["folder"]

    retry_output = call("retry", "-l", LAUNCHPAD).stdout
    assert "NM relax 1" in retry_output
    assert "1 job queued again" in retry_output
    assert calculations(rehearse(2))["relax"][:2] == [8, 0]
    assert not [row for row in candidates() if row["stage"] == "failed"]
    after = launches(folder)
    assert {name: after[name] for name in before} == before
