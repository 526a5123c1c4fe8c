"""Elements without aqueous ions are reported before a run, which they do not prevent."""

from __future__ import annotations

import json

import pytest
import yaml
from typer.testing import CliRunner

from launchers.cli.main import app

VANADIUM_IONS = {
    "version": "vanadium-1",
    "reference_solids": {"V": {"formula": "VO2", "free_energy": -657.5, "source": "a handbook"}},
    "ions": [{"formula": "VO[2+]", "free_energy": -446.47, "source": "a handbook"}],
}


@pytest.fixture
def command(tmp_path, launchpad_file, monkeypatch):
    """Return a function that runs a command on a campaign with a table of vanadium ions."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ions.yaml").write_text(yaml.safe_dump(VANADIUM_IONS))

    def call(name, caps, *options):
        states = {"Mg": [2, 2], "V": [2, 5], "O": [-2, -2]}
        campaign = {
            "name": "search",
            "chemical_system": {"caps": caps},
            "oxidation_states": {symbol: states[symbol] for symbol in caps},
            "sampling": {"proposers": ["random"], "structures_per_composition": 1},
            "engines": {"band_gap": {"name": "none"}},
            "pourbaix": {"ion_file": "ions.yaml"},
        }
        (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(campaign))
        return CliRunner().invoke(app, [name, "campaign.yaml", "-l", str(launchpad_file), *options])

    return call


def test_campaign_can_be_submitted_without_ions(command):
    result = command("submit", {"Mg": 2, "O": 2}, "--dry-run")
    assert result.exit_code == 0
    assert "no aqueous ions of Mg" in " ".join(result.stderr.split())
    assert "aqueous" not in command("submit", {"V": 2, "O": 4}, "--dry-run").stderr


@pytest.mark.parametrize(
    ("caps", "severity"), [({"Mg": 2, "O": 2}, "warning"), ({"V": 2, "O": 4}, "ok")]
)
def test_doctor_checks_the_ions(command, caps, severity):
    result = command("doctor", caps, "--json")
    checks = {check["where"]: check for check in json.loads(result.stdout)}
    assert checks["aqueous ions"]["severity"] == severity
    assert ("Mg" in checks["aqueous ions"]["what"]) == (severity == "warning")
