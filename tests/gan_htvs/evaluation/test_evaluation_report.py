from __future__ import annotations

import csv
import io

import pytest
from matplotlib.image import imread

from gan_htvs.campaign.model import Campaign
from gan_htvs.core.errors import UserError
from gan_htvs.evaluation.evaluation_documents import Report
from gan_htvs.evaluation.evaluation_report import (
    BEFORE_RELAXATION,
    draw_report,
    make_report,
    write_report,
)
from gan_htvs.generator.checkpoint import TrainedGenerator
from gan_htvs.generator.presets import PRESETS
from launchers.cli.evaluation_tables import print_report
from tests.helpers import MG_MN_O, OXIDATION_STATES

from .conftest import CSCL, MG_O, STATES, ZINCBLENDE, dataset_of, evaluate_samples


def report_of(*evaluations, system=MG_O, states=STATES) -> Report:
    campaign = Campaign(
        name="test",
        chemical_system=system,
        oxidation_states=states,
        dataset={"held_out": 0.5},
    )
    trained = TrainedGenerator.build(system, PRESETS["paper"], seed=0)
    return make_report(campaign, trained, dataset_of(CSCL, ZINCBLENDE), evaluations)


@pytest.fixture(scope="module")
def report(evaluation) -> Report:
    return report_of(evaluation, evaluation)


@pytest.fixture(scope="module")
def unrelaxed() -> Report:
    return report_of(evaluate_samples((1, 1), (2, 2)))


def test_report_files_are_consistent(report, tmp_path):
    document, table, figure = write_report(report, tmp_path / "new" / "folder")
    assert Report.model_validate_json(document.read_text()) == report
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert table.read_bytes().count(b"\r\n") == len(rows) + 1
    assert len(rows) == sum(len(e.samples) for e in report.evaluations)
    energies = [row["decomposition_energy"] for row in rows]
    stable = [energy for energy in energies if energy and float(energy) <= 0.08]
    assert len(stable) == sum(e.overall.thresholds[2].stable.k for e in report.evaluations)
    assert imread(figure).shape[2] in (3, 4)


def test_equal_reports_have_equal_files(report, tmp_path):
    first, second = (write_report(report, tmp_path / name) for name in ("a", "b"))
    for path, other in zip(first, second, strict=True):
        assert path.read_bytes() == other.read_bytes()


def test_figure_without_relaxations_has_the_shares_before_relaxation(report, unrelaxed, tmp_path):
    assert report.is_relaxed
    assert not unrelaxed.is_relaxed
    assert imread(write_report(unrelaxed, tmp_path)[2]).std() > 0
    (axes,) = draw_report(unrelaxed).axes
    (bars,) = (bars for bars in axes.containers if bars.get_label() == "random")
    shares = [getattr(unrelaxed.evaluations[0].overall, name) for name in BEFORE_RELAXATION]
    assert [bar.get_height() for bar in bars] == [100 * share.value for share in shares]


def test_only_reports_of_mg_mn_o_have_published_shares(report, evaluation, capsys):
    same_system = report_of(evaluation, system=MG_MN_O, states=OXIDATION_STATES)
    labels = {}
    for each in (report, same_system):
        print_report(each, [])
        legend = draw_report(each).axes[1].get_legend()
        labels[len(each.published)] = (
            "published" in capsys.readouterr().out,
            any("published" in text.get_text() for text in legend.get_texts()),
        )
    assert labels == {0: (False, False), 6: (True, True)}


def test_unwritable_folder_is_a_user_error(report, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="file"):
        write_report(report, blocked)
