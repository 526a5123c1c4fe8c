"""Hulls without reference phases of a subsystem, in all outputs that show candidates."""

from __future__ import annotations

import csv
import io
import json

import pytest
from typer.testing import CliRunner

from gan_htvs.campaign.model import ReferenceSettings
from gan_htvs.core.document import encode
from gan_htvs.thermodynamics.coverage import incomplete_hull_warning
from launchers.cli.main import app
from launchers.launchpad.database import open_databases
from tests.documents import CAMPAIGN, candidate, store_campaign

WARNING = incomplete_hull_warning(["Mn-O"])
UNCOVERED = candidate(
    "1" * 16,
    "Mn",
    campaign=CAMPAIGN.name,
    stage="synthesizable",
    energy_above_hull=0.0,
    decomposition_energy=-0.02,
    minimum=0.4,
    uncovered_subsystems=["Mn-O"],
)
COVERED = candidate(
    "2" * 16,
    campaign=CAMPAIGN.name,
    stage="synthesizable",
    energy_above_hull=0.0,
    minimum=0.4,
    uncovered_subsystems=[],
)


@pytest.fixture
def stored(launchpad_file):
    with open_databases(launchpad_file) as databases:
        store_campaign(databases, [UNCOVERED, COVERED])
    return launchpad_file


@pytest.fixture
def call(stored):
    def run(*arguments, exit_code=0):
        result = CliRunner().invoke(app, [*arguments, "-l", str(stored)])
        assert result.exit_code == exit_code, result.output
        return result

    return run


def text_of(result):
    return " ".join((result.stdout + result.stderr).split())


@pytest.mark.parametrize(
    ("formula", "is_shown"), [("MnO", True), ("MgO", False)], ids=["uncovered", "covered"]
)
def test_table_warns_of_the_candidates_that_it_shows(call, formula, is_shown):
    assert (WARNING in text_of(call("candidates", "--formula", formula))) == is_shown


def test_files_have_a_field(call, tmp_path):
    (row,) = json.loads(call("candidates", "--formula", "MnO", "--format", "json").stdout)
    assert row["uncovered_subsystems"] == ["Mn-O"]
    rows = csv.DictReader(io.StringIO(call("candidates", "--format", "csv").stdout))
    fields = {row["formula_pretty"]: row["uncovered_subsystems"] for row in rows}
    assert fields == {"MnO": "Mn-O", "MgO": ""}
    call("candidates", "--structures", str(tmp_path / "best"), "--as", "extxyz")
    with (tmp_path / "best" / "manifest.csv").open() as file:
        exported = {row["formula"]: row["uncovered_subsystems"] for row in csv.DictReader(file)}
    assert exported == fields


@pytest.mark.parametrize(
    ("command", "exit_code"),
    [(("show", "1" * 16), 0), (("funnel",), 0), (("status",), 1)],  # status: no job is queued
    ids=["show", "funnel", "status"],
)
def test_commands_warn(call, command, exit_code):
    output = text_of(call(*command, exit_code=exit_code))
    assert all(word in output for word in ("The hull is incomplete", "compound of Mn-O"))


@pytest.mark.parametrize(
    ("command", "exit_code"),
    [(("candidates",), 0), (("show", "2" * 16), 0), (("funnel",), 0), (("status",), 1)],
    ids=["candidates", "show", "funnel", "status"],
)
def test_own_reference_phases_are_noted(call, launchpad_file, tmp_path, command, exit_code):
    assert "It is unknown" not in text_of(call(*command, exit_code=exit_code))
    references = ReferenceSettings(source="file", path=tmp_path / "phases.json")
    campaign = CAMPAIGN.model_copy(update={"references": references})
    with open_databases(launchpad_file) as databases:
        store_campaign(databases, [], campaign)
    output = text_of(call(*command, exit_code=exit_code))
    assert output.count("It is unknown whether the reference phases (file phases.json)") == 1


def test_csv_and_json_have_no_note(call, launchpad_file, tmp_path):
    references = ReferenceSettings(source="folder", path=tmp_path)
    campaign = CAMPAIGN.model_copy(update={"references": references})
    with open_databases(launchpad_file) as databases:
        store_campaign(databases, [], campaign)
    for form in ("csv", "json"):
        assert call("candidates", "--format", form).stderr == ""


def test_web_page_warns(stored):
    pytest.importorskip("dash_mp_components", reason="needs the extra explorer")
    from launchers.results.explorer.address import SearchQuery
    from launchers.results.explorer.campaign_pages import layout_of_one
    from launchers.results.explorer.listing import table

    uncovered, covered = encode(UNCOVERED), encode(COVERED)
    for rows, is_shown in (([uncovered, covered], True), ([covered], False)):
        page = json.dumps(table(SearchQuery({}), rows).to_plotly_json(), default=vars)
        assert (WARNING in page) == is_shown
    with open_databases(stored) as databases:
        page = layout_of_one(databases, CAMPAIGN.name)
    assert WARNING in json.dumps(page.to_plotly_json(), default=vars)


def test_optimade_entry_has_a_field():
    pytest.importorskip("optimade", reason="needs the extra optimade")
    from gan_htvs.results.builders.optimade import entry

    assert entry(UNCOVERED)["uncovered_subsystems"] == ["Mn-O"]


def test_limit_of_zero_includes_phases_on_the_hull(call):
    arguments = ("candidates", "--energy-above-hull", "..0", "--count")
    assert call(*arguments).stdout == "2\n"
