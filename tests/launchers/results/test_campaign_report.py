from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from monty.json import jsanitize
from pymatgen.core import Lattice, Structure
from typer.testing import CliRunner

from gan_htvs.core.candidate import Candidate, Origin
from gan_htvs.core.document import encode
from gan_htvs.core.stages import ScreeningStep
from launchers.cli.main import app
from launchers.launchpad.database import open_databases
from launchers.results.campaign_report import figures, read_results, read_trajectories
from tests.helpers import CHGNET, mg_o, references

CAMPAIGN = mg_o(prescreen={})
REFERENCES = references(energies={"Mg": 0.0, "O2": 0.0, "MgO": -3.06})
PRESCREENED = {
    "candidate_id": "b",
    "campaign": "mg-o",
    "formula_pretty": "MgO",
    "origin": {"proposer": "gan"},
    "stage": "rejected",
    "prescreen": {"rejected_at": "early stopping", "level_of_theory": CHGNET},
    "gate": {"references": REFERENCES.content_hash},
}
STABLE = {
    "candidate_id": "a",
    "campaign": "mg-o",
    "formula_pretty": "MgO",
    "origin": {"proposer": "gan"},
    "stage": "photoanode",
    "energy_above_hull": 0.02,
    "decomposition_energy": 0.02,
    "reference_decomposition_energy": 0.02,
    "formation_energy_per_atom": -3.04,
    "band_gap": 2.0,
    "band_gap_method": "HSE06",
    "novelty": {"is_novel": True},
    "pourbaix": {
        "minimum": 0.1,
        "ph": [0.0, 7.0, 14.0],
        "decomposition_energies": [0.8, 0.4, 0.1],
        "settings": {"potential_vs_rhe": 1.5, "ion_concentration": 1e-6},
    },
    "gate": {"references": REFERENCES.content_hash},
}


def prescreen(uuid, energies):
    """Return the stored output of a prescreen with these energies by candidate and step."""
    screened = [
        {"candidate_id": name, "relaxation": {"curve": {"energies": steps}}}
        for name, steps in energies.items()
    ]
    labels = {"campaign": "mg-o", "step": "prescreen"}
    return {"uuid": uuid, "metadata": labels, "output": {"proposals": screened}}


@pytest.fixture
def funnel(launchpad_file):
    def put(*names):
        with open_databases(launchpad_file) as databases:
            with databases.store("campaigns", key="name") as store:
                settings = CAMPAIGN.model_dump(mode="json")
                store.update([{"name": name, "settings": settings} for name in names])
            with databases.store("candidates", key="candidate_id") as store:
                store.update([STABLE, PRESCREENED])
            with databases.store("outputs", key="uuid") as store:
                output = jsanitize(REFERENCES, strict=True)
                labels = {"campaign": "references", "step": "references"}
                store.update([{"uuid": "references", "metadata": labels, "output": output}])
                store.update([prescreen("batch of b", {"b": [-2.56, -2.76]})])

    def call(*arguments):
        return CliRunner().invoke(app, ["funnel", *arguments, "-l", str(launchpad_file)])

    call.put = put
    return call


def test_funnel_of_the_only_campaign_needs_no_name(funnel, tmp_path):
    funnel.put("mg-o")
    result = funnel("--output", str(tmp_path / "figures"))
    assert result.exit_code == 0, result.output
    assert "published" not in result.output  # only for Mg-Mn-O
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    figures = ["funnel", "gaps", "hull", "pourbaix", "prescreen"]
    assert names == [f"{figure}.{form}" for figure in figures for form in ("png", "svg")]
    assert "Prescreen of mg-o (chgnet, confirmed by sevennet-0)" in result.output
    assert "Early stopping ended 1 relaxation" in result.output


def test_trajectories_are_energies_above_hull_balanced_over_rejection_steps(
    funnel, launchpad_file, monkeypatch
):
    funnel.put("mg-o")
    monkeypatch.setattr("launchers.results.campaign_report.MAX_TRAJECTORIES", 3)
    with open_databases(launchpad_file) as databases:
        with databases.store("candidates", key="candidate_id") as store:
            for name in "cdefg":
                record = PRESCREENED["prescreen"] | {"rejected_at": None}
                store.update([PRESCREENED | {"candidate_id": name, "prescreen": record}])
        with databases.store("outputs", key="uuid") as store:
            store.update([prescreen("batch", {name: [-2.86, -3.01] for name in "cdefg"})])
        trajectories = read_trajectories(databases, read_results(databases, "mg-o"))
    assert [trajectory.rejected_at for trajectory in trajectories] == [
        ScreeningStep.STOPPING,
        None,
        None,
    ]
    assert trajectories[0].above_hull == pytest.approx([0.5, 0.3])
    assert trajectories[1].above_hull == pytest.approx([0.2, 0.05])


def test_campaign_without_prescreen_has_no_prescreen_figure(funnel, launchpad_file, tmp_path):
    funnel.put("mg-o")
    settings = CAMPAIGN.model_copy(update={"prescreen": None}).model_dump(mode="json")
    with (
        open_databases(launchpad_file) as databases,
        databases.store("campaigns", key="name") as store,
    ):
        store.update([{"name": "mg-o", "settings": settings}])
    result = funnel("--output", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "rescreen" not in result.output


def test_missing_or_ambiguous_campaign_is_a_user_error(funnel):
    funnel.put("mg-o", "another")
    for arguments in ([], ["missing"]):
        result = funnel(*arguments)
        assert result.exit_code == 2
        assert "another, mg-o" in result.output


def ranked(name, stage, **fields):
    rocksalt = Structure(Lattice.rhombohedral(3.0, 60), ["Mg", "O"], [[0] * 3, [0.5] * 3])
    return Candidate(
        **{
            "candidate_id": name,
            "campaign": "mg-o",
            "stage": stage,
            "origin": Origin(proposer="gan", requested_composition="MgO", index=0),
            "formula_pretty": "MgO",
            "chemsys": "Mg-O",
            "nsites": 2,
            "generated_structure": rocksalt,
            "structure": rocksalt,
            "energy_above_hull": 0.01,
            "formation_energy_per_atom": -3.05,
            "gate": {"references": REFERENCES.content_hash},
            "last_updated": datetime.now(UTC),
        }
        | fields
    )


@pytest.fixture
def report(funnel, launchpad_file, tmp_path):
    funnel.put("mg-o")

    def write(*candidates, top=10):
        with (
            open_databases(launchpad_file) as databases,
            databases.store("candidates", key="candidate_id") as store,
        ):
            store.remove_docs({})
            store.update([encode(candidate) for candidate in candidates])
        path = tmp_path / "report.html"
        arguments = ["report", "-o", str(path), "--top", str(top), "-l", str(launchpad_file)]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return path.read_text()

    return write


def test_report_is_self_contained_and_lists_the_best_crystals(report):
    phase = Origin(proposer="reference_phase", requested_composition="MgO", index=0)
    html = report(
        ranked("aa", "synthesizable", reason="<script>alert(1)</script>"),
        ranked("bb", "photoanode", band_gap=2.0, band_gap_method="HSE06", duplicate_of="bc"),
        ranked("cc", "synthesizable", energy_above_hull=0.0),
        ranked("dd", "rejected"),
        ranked("ee", "synthesizable", origin=phase),
        ranked("ff", "relaxed", duplicate_of="cc"),
        ranked(
            "bc", "pourbaix_metastable", energy_above_hull=0.0
        ),  # lower in energy, without a gap
        ranked("gg", "synthesizable", energy_above_hull=0.02, duplicate_of="of another campaign"),
    )
    order = re.findall("<code>(..)</code>", html)
    assert order == ["bb", "cc", "aa", "gg"]
    images = re.findall('src="(.{20})', html)
    assert len(images) == html.count("<img") == len(order) + 2  # funnel and hull
    assert set(images) == {"data:image/svg+xml;b"}
    assert "http" not in html
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "published" not in re.sub("<style>.*</style>", "", html, flags=re.DOTALL)  # for Mg-Mn-O
    assert "chgnet energies, no gaps" in html
    assert "10.1021/acscentsci.0c00426" in html
    for text in ("reference phases", "prescreen", "photoanode (band gap 1.6 to 3 eV)"):
        assert text in html


def test_report_of_an_incomplete_hull_has_a_warning(report):
    assert "hull is incomplete" not in report(ranked("aa", "synthesizable"))
    html = report(ranked("aa", "synthesizable", uncovered_subsystems=["Mg-O"]))
    assert 'class="warning">The hull is incomplete' in html
    assert "no compound of Mg-O" in html


def test_report_states_that_own_phases_may_be_incomplete(report, launchpad_file):
    assert "It is unknown whether" not in report(ranked("aa", "synthesizable"))
    own = mg_o(prescreen={}, references={"source": "folder", "path": "my-phases"})
    with (
        open_databases(launchpad_file) as databases,
        databases.store("campaigns", key="name") as store,
    ):
        store.update([{"name": own.name, "settings": own.model_dump(mode="json")}])
    caveats = report(ranked("aa", "synthesizable")).split("Caveats")[-1]
    assert "(folder my-phases) are complete" in caveats


def test_figures_of_an_incomplete_hull_have_a_warning(funnel, launchpad_file):
    funnel.put("mg-o")
    with open_databases(launchpad_file) as databases:
        results = read_results(databases, None)
    complete = figures(results)
    results.rows[0]["uncovered_subsystems"] = ["Mg-O"]
    incomplete = figures(results)
    assert {"funnel", "hull"} <= complete.keys()
    for name, figure in incomplete.items():
        assert "no compound of Mg-O" in " ".join(figure.get_supxlabel().split())
        assert complete[name].get_supxlabel() == ""


def test_report_without_stable_candidates(report):
    assert re.findall("<code>(..)</code>", report(ranked("aa", "synthesizable"), top=0)) == []
    assert "<code>aa</code>" not in report(ranked("aa", "rejected"))


def test_report_of_a_missing_campaign_is_a_user_error(funnel, launchpad_file, tmp_path):
    funnel.put("mg-o")
    path = tmp_path / "report.html"
    arguments = ["report", "other", "-o", str(path), "-l", str(launchpad_file)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "other" in result.output
    assert not path.exists()
