from __future__ import annotations

import csv
import errno
import fcntl
import io
import json
import os
from datetime import UTC, datetime
from importlib.util import find_spec

import pytest
from pymatgen.core import Structure
from typer.testing import CliRunner

from gan_htvs.core.candidate import Candidate, Origin
from gan_htvs.core.document import encode
from launchers.cli.main import app
from launchers.launchpad.database import open_databases
from tests.documents import OF_ANOTHER_VERSION
from tests.helpers import rocksalt

runner = CliRunner()


def call(*arguments: object):
    return runner.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def stored(launchpad_file):
    """Store two candidates in a database that is stopped again."""
    common = {
        "campaign": "search",
        "last_updated": datetime.now(UTC),
        "nsites": 2,
    }
    with (
        open_databases(launchpad_file) as databases,
        databases.store("candidates", key="candidate_id") as store,
    ):
        store.update(
            [
                common
                | {
                    "candidate_id": "aa",
                    "formula_pretty": "MgO",
                    "stage": "synthesizable",
                    "energy_above_hull": 0.01,
                    "properties": {"hardness": {"value": 9.5, "unit": "GPa", "reason": None}},
                    "origin": {"proposer": "gan"},
                },
                common
                | {
                    "candidate_id": "bb",
                    "formula_pretty": "MnO",
                    "stage": "failed",
                    "reason": "crashed",
                    "origin": {"proposer": "gan"},
                },
            ]
        )
    return launchpad_file


@pytest.mark.parametrize(
    "command", ["demo", "run", "build", "candidates", "show", "evaluate", "init", "doctor"]
)
def test_commands_have_help_with_an_example(command):
    result = call(command, "--help")
    assert result.exit_code == 0
    assert f"gan-htvs {command}" in result.output


def test_candidates_as_json_and_csv(stored):
    rows = json.loads(call("candidates", "-l", stored, "--format", "json").output)
    assert [row["candidate_id"] for row in rows] == ["aa", "bb"]
    table = list(
        csv.DictReader(io.StringIO(call("candidates", "-l", stored, "--format", "csv").output))
    )
    assert table[0]["formula_pretty"] == "MgO"
    assert float(table[0]["energy_above_hull"]) == 0.01
    assert table[1]["reason"] == "crashed"
    assert [row["properties.hardness.value"] for row in table] == ["9.5", ""]


def test_candidates_by_stage(stored):
    rows = json.loads(
        call("candidates", "-l", stored, "--format", "json", "--stage", "failed").output
    )
    assert [row["candidate_id"] for row in rows] == ["bb"]
    assert "MgO" in call("candidates", "-l", stored).output


def test_stage_of_no_campaign_is_refused(stored):
    result = call("candidates", "-l", stored, "--stage", "superb")
    assert result.exit_code == 2
    assert "superb" in result.output
    assert "photoanode" in result.output


def test_property_of_the_user_has_a_column(stored):
    assert "hardness" in call("candidates", "-l", stored).output


def test_candidates_are_filtered_sorted_and_counted(stored):
    def ids(*arguments):
        result = call("candidates", "-l", stored, "--format", "json", *arguments)
        return "".join(row["candidate_id"] for row in json.loads(result.output))

    assert ids("--energy-above-hull", "..0.05", "--formula", "OMg") == "aa"
    assert ids("--sort", "-candidate_id") == "bbaa"
    assert ids("--skip", "1", "--limit", "1") == "bb"
    assert ids("--stage", "failed", "--stage", "synthesizable") == "aabb"
    assert call("candidates", "-l", stored, "--count", "--chemsys", "Mg-O").output == "0\n"
    none = call("candidates", "-l", stored, "--band-gap", "1.6..3.0")
    assert none.output == "No candidate matches these filters (2 searched).\n"


def test_structures_are_written_with_a_manifest(launchpad_file, tmp_path):
    origin = Origin(proposer="random", requested_composition="MgO", index=0)
    candidate = Candidate(
        candidate_id="cc",
        campaign="search",
        stage="generated",
        origin=origin,
        formula_pretty="MgO",
        chemsys="Mg-O",
        nsites=2,
        generated_structure=rocksalt(),
        last_updated=datetime.now(UTC),
    )
    with (
        open_databases(launchpad_file) as databases,
        databases.store("candidates", key="candidate_id") as store,
    ):
        store.update([encode(candidate)])
    folder = tmp_path / "best"
    arguments = ("candidates", "-l", launchpad_file, "--structures", folder)
    result = call(*arguments, "--as", "poscar")
    assert result.output.replace("\n", "") == f"wrote 1 structure to {folder}, see manifest.csv"
    assert Structure.from_file(folder / "MgO_cc.vasp").matches(rocksalt())
    (row,) = csv.DictReader(io.StringIO((folder / "manifest.csv").read_text()))
    names = ("candidate_id", "campaign", "formula", "stage", "is_relaxed")
    assert [row[name] for name in names] == ["cc", "search", "MgO", "generated", "False"]
    nothing = call(*arguments, "--stage", "photoanode")
    assert "wrote 0 structures" in nothing.output


def test_empty_database_causes_a_hint(launchpad_file):
    result = call("candidates", "-l", launchpad_file)
    assert result.exit_code == 0
    assert "gan-htvs demo" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "nowhere.yaml"),
        ("candidates", "-l", "nowhere.yaml"),
        ("candidates", "--stage", "wonderful"),
        ("candidates", "--band-gap", "1.6"),
        ("candidates", "--formula", "Xx"),
        ("build", "-l", "nowhere.yaml"),
    ],
)
def test_invalid_input_is_a_user_error(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert "gan-htvs:" in result.output


@pytest.mark.parametrize("command", ["status", "candidates", "demo"])
def test_storage_without_locks_is_one_sentence(launchpad_file_of_own_server, monkeypatch, command):
    def flock(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    result = call(command, "-l", launchpad_file_of_own_server)
    assert result.exit_code == 2
    assert "embedded_storage" in result.output


@pytest.mark.parametrize(
    "arguments",
    [("status",), ("candidates",), ("demo",), ("init", "there"), ("report",), ("recover",)],
)
def test_current_folder_in_a_file_system_that_refuses_files(monkeypatch, arguments):
    monkeypatch.chdir("/proc/self")  # even for root
    result = call(*arguments)
    assert result.exit_code == 2
    assert "gan-htvs:" in result.output


def test_init_never_overwrites(tmp_path):
    assert call("init", tmp_path / "search").exit_code == 0
    campaign = tmp_path / "search" / "campaign.yaml"
    campaign.write_text("mine")
    result = call("init", tmp_path / "search")
    assert result.exit_code == 2
    assert campaign.read_text() == "mine"


def test_missing_confirming_potential_is_a_user_error(tmp_path, monkeypatch, launchpad_file):
    monkeypatch.setattr(
        "gan_htvs.potentials.calculators.find_spec",
        lambda name: None if name == "sevenn" else find_spec(name),
    )
    call("init", tmp_path / "search")
    result = call("run", tmp_path / "search" / "campaign.yaml", "-l", launchpad_file)
    assert result.exit_code == 2
    assert "'sevennet-0' is not installed" in " ".join(result.output.split())


@pytest.mark.parametrize(
    "command", [("candidates", "--campaign"), ("report",), ("funnel",), ("status",)]
)
def test_campaign_of_another_version_is_a_user_error(stored, command):
    with open_databases(stored) as databases, databases.store("campaigns", key="name") as store:
        store.update(OF_ANOTHER_VERSION)
    result = call(*command, "newer", "-l", stored)
    assert result.exit_code == 2
    assert "'newer'" in " ".join(result.output.split())


def test_status_notes_a_campaign_of_another_version(stored):
    with open_databases(stored) as databases, databases.store("campaigns", key="name") as store:
        store.update(OF_ANOTHER_VERSION)
    result = call("status", "-l", stored)
    assert result.exit_code == 0, result.output
    assert "'newer'" in result.output


def test_unknown_campaign_is_a_user_error(stored):
    result = call("candidates", "--campaign", "unknown", "-l", stored)
    assert result.exit_code == 2
    assert "no campaign" in result.output
