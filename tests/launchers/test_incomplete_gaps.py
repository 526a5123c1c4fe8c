"""Band gaps with missing magnetic orderings, in all outputs that show candidates."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from typer.testing import CliRunner

from gan_htvs.core.band_gap import BandGapResult, MagneticOrderingResult
from launchers.cli.main import app
from launchers.launchpad.database import open_databases
from tests.documents import CAMPAIGN, candidate, store_campaign

REASON = "missing magnetic ordering AFM: not converged"
GAP = BandGapResult(
    band_gap=2.283,
    method="HSE06",
    magnetic_orders=(
        MagneticOrderingResult(start="FM", order="FM", energy_per_atom=-7.0),
        MagneticOrderingResult(start="AFM", reason="not converged", is_limited=True),
    ),
)
INCOMPLETE = candidate(
    "1" * 16,
    "Mn",
    campaign=CAMPAIGN.name,
    stage="pourbaix_metastable",
    energy_above_hull=0.012,
    energy_incomplete=REASON,
    minimum=0.4,
    incomplete_band_gap=GAP.band_gap,
    band_gap_method="HSE06",
    band_gap_reason=REASON,
    band_gap_result=GAP,
)
COMPLETE = candidate(
    "2" * 16,
    campaign=CAMPAIGN.name,
    stage="photoanode",
    energy_above_hull=0.01,
    minimum=0.4,
    band_gap=1.7,
    band_gap_method="HSE06",
)


@pytest.fixture
def stored(launchpad_file):
    with open_databases(launchpad_file) as databases:
        store_campaign(databases, [INCOMPLETE, COMPLETE])
    return launchpad_file


@pytest.fixture
def call(stored):
    def run(*arguments):
        result = CliRunner().invoke(app, [*arguments, "-l", str(stored)])
        assert result.exit_code == 0, result.output
        return result.output

    return run


def test_table_marks_incomplete_gap_and_energy(call):
    output = call("candidates")
    assert re.search(r"MnO .*0\.012\* .*2\.283\*", output)
    assert re.search(r"MgO .*0\.010 .*1\.700 ", output)
    assert "Magnetic orderings are missing" in output
    assert "Magnetic orders" not in call("candidates", "--formula", "MgO")


def test_files_have_a_field_for_incomplete_gaps(call):
    (row,) = json.loads(call("candidates", "--formula", "MnO", "--format", "json"))
    assert (row["band_gap"], row["incomplete_band_gap"]) == (None, 2.283)
    assert row["band_gap_reason"] == row["energy_incomplete"] == REASON
    rows = csv.DictReader(io.StringIO(call("candidates", "--format", "csv")))
    gaps = {row["formula_pretty"]: (row["band_gap"], row["incomplete_band_gap"]) for row in rows}
    assert gaps == {"MnO": ("", "2.283"), "MgO": ("1.7", "")}


@pytest.mark.parametrize("gap", ["1.6..3.0", "0..", "..9", "2.283..2.283"])
def test_incomplete_gap_matches_no_filter(call, gap):
    rows = json.loads(call("candidates", "--band-gap", gap, "--format", "json"))
    assert "MnO" not in [row["formula_pretty"] for row in rows]


def test_accepted_incomplete_gap_matches_a_filter_and_is_marked(call, stored):
    accepted = INCOMPLETE.model_copy(update={"band_gap": GAP.band_gap})
    with open_databases(stored) as databases:
        store_campaign(databases, [accepted, COMPLETE])
    rows = json.loads(call("candidates", "--band-gap", "1.6..3.0", "--format", "json"))
    assert {row["formula_pretty"] for row in rows} == {"MgO", "MnO"}
    assert re.search(r"MnO .*2\.283\*", call("candidates", "--band-gap", "2..3"))


@pytest.mark.parametrize("order", ["band_gap", "-band_gap"])
def test_incomplete_gaps_are_sorted_last(call, order):
    rows = json.loads(call("candidates", f"--sort={order}", "--format", "json"))
    assert [row["formula_pretty"] for row in rows] == ["MgO", "MnO"]


def test_provenance_lists_all_magnetic_orders(call):
    lines = [" ".join(line.split()) for line in call("show", "1" * 16).splitlines()]
    for line in (
        "band gap 2.28 eV (HSE06)",
        f"band gap incomplete {REASON}",
        f"energy incomplete {REASON}",
        "magnetic ordering FM FM, -7.000 eV/atom",
        "magnetic ordering AFM missing: not converged",
    ):
        assert line in lines
    document = json.loads(call("show", "1" * 16, "--json"))
    assert document["band_gap_result"]["is_complete"] is False


def test_funnel_and_report_count_incomplete_gaps_separately(call, tmp_path):
    output = call("funnel")
    assert re.search(r"any band gap\) +1 ", output)
    assert "1 band gap is incomplete" in output
    call("report", "-o", str(tmp_path / "report.html"))
    html = (tmp_path / "report.html").read_text()
    assert "1 band gap is incomplete" in html
    assert re.search(r"2\.28\*<br>", html)
    assert REASON in html


def test_export_has_a_field_for_incomplete_gaps(call, tmp_path):
    call("candidates", "--structures", str(tmp_path / "best"), "--as", "extxyz")
    with (tmp_path / "best" / "manifest.csv").open() as file:
        rows = {row["formula"]: row for row in csv.DictReader(file)}
    assert rows["MnO"]["band_gap_eV"] == ""
    assert rows["MnO"]["incomplete_band_gap_eV"] == "2.283"
    assert rows["MnO"]["band_gap_reason"] == rows["MnO"]["energy_incomplete"] == REASON
    assert rows["MgO"]["incomplete_band_gap_eV"] == ""
    text = (tmp_path / "best" / "MnO_1111111111111111.extxyz").read_text()
    assert "incomplete_band_gap_eV=2.283" in text
    assert " band_gap_eV" not in text


def test_web_page_marks_incomplete_gaps(stored):
    pytest.importorskip("dash_mp_components", reason="needs the extra explorer")
    from gan_htvs.results.store import CandidateStore
    from launchers.results.explorer.address import SearchQuery
    from launchers.results.explorer.listing import scatter, table

    with open_databases(stored) as databases:
        rows = CandidateStore(databases.store("candidates", key="candidate_id")).rows()
    page = json.dumps(table(SearchQuery({}), rows).to_plotly_json(), default=vars)
    assert "2.28*" in page
    assert "0.012*" in page
    assert REASON in page
    assert "Magnetic orderings are missing" in page
    (gaps,) = [trace for trace in scatter(rows).data if trace.name == "gap"]
    assert list(gaps.marker.color) == [1.7]


def test_optimade_entry_has_a_field_for_incomplete_gaps():
    pytest.importorskip("optimade", reason="needs the extra optimade")
    from gan_htvs.results.builders.optimade import entry

    attributes = entry(INCOMPLETE)
    assert (attributes["band_gap"], attributes["incomplete_band_gap"]) == (None, 2.283)
    assert attributes["band_gap_reason"] == attributes["energy_incomplete"] == REASON
    assert entry(COMPLETE)["incomplete_band_gap"] is None
