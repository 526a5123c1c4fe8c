"""Missing reference phases of campaigns are errors before any job is queued."""

from __future__ import annotations

import json

import pytest
import yaml
from pymatgen.core import Lattice, Structure
from typer.testing import CliRunner

from gan_htvs.thermodynamics.references import ReferencePhase
from launchers.cli.main import app
from launchers.launchpad.database import open_databases
from tests.helpers import write_fetched_phases

STATES = {"Mg": [2, 2], "Mn": [2, 4], "V": [2, 5], "Ca": [2, 2], "K": [1, 1], "O": [-2, -2]}

CALCIUM = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.588), ["Ca"], [[0, 0, 0]])
POTASSIUM = Structure.from_spacegroup("Im-3m", Lattice.cubic(5.328), ["K"], [[0, 0, 0]])
LIME = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(4.811), ["Ca", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
)


@pytest.fixture
def command(tmp_path, launchpad_file, monkeypatch):
    """Return a function that runs a command on a campaign of these elements and phases."""
    monkeypatch.chdir(tmp_path)

    def call(name, elements, phases=None, *options):
        campaign = {
            "name": "search",
            "chemical_system": {"caps": dict.fromkeys(elements, 4) | {"O": 12}},
            "oxidation_states": {element: STATES[element] for element in elements},
            "sampling": {"proposers": ["random"], "structures_per_composition": 1},
            "engines": {"band_gap": {"name": "none"}},
            "prescreen": None,
        }
        if phases is not None:
            phases_ = [ReferencePhase(name=p.formula, structure=p, source="a test") for p in phases]
            write_fetched_phases(tmp_path / "phases.json", phases_, elements)
            campaign["references"] = {"source": "materials_project", "path": "phases.json"}
        (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(campaign))
        words = [name, "campaign.yaml", "-l", str(launchpad_file), *options]
        return CliRunner().invoke(app, words)

    return call


def n_queued(launchpad_file):
    with open_databases(launchpad_file) as databases:
        database = databases.launchpad().db
        return sum(database[name].count_documents({}) for name in ("fireworks", "campaigns"))


def diagnosis(result):
    return {check["where"]: check for check in json.loads(result.stdout)}["reference phases"]


MISSING = pytest.mark.parametrize(
    ("elements", "phases", "message"),
    [
        (("Mg", "V", "O"), None, "Mg-O-V"),
        (("Mn", "V", "O"), None, "Mn-O-V"),
        (("Mg", "Mn", "V", "O"), None, "Mg-Mn-O-V"),
        (("K", "O"), None, "no reference phases are known for K"),
        (("Ca", "K", "O"), [CALCIUM, LIME], "no elemental phase of K"),
    ],
)


@MISSING
@pytest.mark.parametrize("name", ["run", "submit"])
def test_missing_reference_phases_are_a_user_error(
    command, launchpad_file, name, elements, phases, message
):
    result = command(name, elements, phases)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert n_queued(launchpad_file) == 0


@MISSING
def test_doctor_reports_missing_phases_as_failure(command, elements, phases, message):
    result = command("doctor", elements, phases, "--json")
    assert result.exit_code == 1
    assert diagnosis(result)["severity"] == "failure"
    assert message in diagnosis(result)["what"]


def test_subsystem_without_phases_is_a_warning(command):
    phases = [CALCIUM, POTASSIUM, LIME]
    check = diagnosis(command("doctor", ("Ca", "K", "O"), phases, "--json"))
    assert check["severity"] == "warning"
    assert "no compound of Ca-K, K-O, Ca-K-O" in check["what"]
    dry = command("submit", ("Ca", "K", "O"), phases, "--dry-run")
    assert dry.exit_code == 0
    assert "Ca-K, K-O, Ca-K-O" in dry.stderr
    assert "too stable; check that" in dry.stderr  # one sentence


@pytest.mark.parametrize("elements", [("Mg", "Mn", "O"), ("V", "O"), ("Mg", "O")])
def test_system_with_shipped_phases_is_ok(command, elements):
    assert diagnosis(command("doctor", elements, None, "--json"))["severity"] == "ok"


def test_phases_that_are_fetched_later_are_skipped(command, tmp_path):
    command("doctor", ("Ca", "O"), [CALCIUM])
    (tmp_path / "phases.json").unlink()
    result = CliRunner().invoke(app, ["doctor", "campaign.yaml", "--json"])
    assert diagnosis(result)["severity"] == "skipped"
