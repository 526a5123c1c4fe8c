"""`run`, `status` and the report name files that a training set lacks."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gan_htvs.campaign.model import DatasetSettings
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.dataset.training_set import build_dataset
from launchers.cli.campaign_summary import print_summary
from launchers.cli.main import app
from launchers.launchpad.database import open_databases
from tests.helpers import mg_o, rocksalt

CAMPAIGN = mg_o()
UNREAD = {"one": "foreign.cif", "two": "notes.txt"}
"""Skipped file by checkpoint."""

REGISTRATION = {
    "name": "mg-o",
    "settings": CAMPAIGN.model_dump(mode="json"),
    "submission": {"owners": ["mg-o", "two"]},
}
"""The campaign owns the training job of the second generator, of which it has no candidate."""


def dataset_summary(folder):
    """Return the summary of a training set from a folder with MgO and a file that is skipped."""
    folder.mkdir()
    rocksalt().to(str(folder / "periclase.cif"))
    (name,) = (name for checkpoint, name in UNREAD.items() if checkpoint == folder.name)
    if name.endswith(".cif"):
        rocksalt("Ca", 4.8).to(str(folder / name))
    else:
        (folder / name).write_text("measured on Monday")
    system = ChemicalSystem(caps={"Mg": 2, "O": 2})
    settings = DatasetSettings(source="folder", path=folder)
    dataset = build_dataset(system, {"Mg": (2, 2), "O": (-2, -2)}, settings)
    return dataset.summary()


@pytest.fixture
def launchpad(launchpad_file, tmp_path):
    """A database with the training jobs of two generators, and a candidate of the first one."""
    with open_databases(launchpad_file) as databases:
        databases.launchpad().initialize()
        for name, key, documents in (
            ("campaigns", "name", [REGISTRATION]),
            (
                "outputs",
                "uuid",
                [
                    {
                        "uuid": checkpoint,
                        "metadata": {"campaign": checkpoint, "step": "train"},
                        "output": {
                            "sha256": checkpoint,
                            "dataset": dataset_summary(tmp_path / checkpoint),
                        },
                    }
                    for checkpoint in UNREAD
                ],
            ),
            (
                "candidates",
                "candidate_id",
                [
                    {
                        "candidate_id": f"of {checkpoint}",
                        "campaign": "mg-o",
                        "formula_pretty": "MgO",
                        "stage": "rejected",
                        "origin": {"proposer": "gan", "checkpoint": checkpoint},
                    }
                    for checkpoint in [*UNREAD][:1]
                ],
            ),
        ):
            with databases.store(name, key=key) as store:
                store.update(documents)
    return launchpad_file


def lines_about_skipped_files(text):
    """Return text without line breaks, which depend on the width of the terminal."""
    text = " ".join(text.split())
    for name in UNREAD.values():
        assert f"1 structure or file of the dataset was skipped: {reason(name)}" in text
    assert "periclase.cif" not in text
    return text


def reason(name):
    words = "foreign or too many atoms" if name.endswith(".cif") else "no structure file"
    return f"{words} (1), namely {name} ("


def test_run_names_skipped_files(launchpad, capsys):
    with open_databases(launchpad) as databases:
        print_summary(CAMPAIGN, databases, Path("my_launchpad.yaml"))
    captured = capsys.readouterr()
    lines_about_skipped_files(captured.out + captured.err)


def test_status_names_skipped_files(launchpad):
    result = CliRunner().invoke(app, ["status", "-l", str(launchpad)])
    lines_about_skipped_files(result.output)
    result = CliRunner().invoke(app, ["status", "--json", "-l", str(launchpad)])
    (campaign,) = json.loads(result.stdout)["campaigns"]
    notes = campaign["source_notes"]
    assert len(notes) == 2
    lines_about_skipped_files(" ".join(notes))


def test_report_names_skipped_files(launchpad, tmp_path):
    path = tmp_path / "report.html"
    result = CliRunner().invoke(app, ["report", "--output", str(path), "-l", str(launchpad)])
    assert result.exit_code == 0, result.output
    lines_about_skipped_files(html.unescape(path.read_text()))
