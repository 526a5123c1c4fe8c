"""``gan-htvs evaluate`` with structures of another origin, and rediscovery."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from ase.build import bulk
from ase.io import read, write
from pymatgen.core import Lattice, Structure
from typer.testing import CliRunner

from gan_htvs.evaluation.evaluation_documents import Outcome, Report
from gan_htvs.structures.point_cloud import encode
from launchers.cli.main import app
from tests.helpers import cesium_chloride, mg_o, rocksalt

runner = CliRunner()

CAMPAIGN = {
    "name": "magnesia",
    "chemical_system": {"caps": {"Mg": 2, "O": 2}},
    "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
    "dataset": {"source": "folder", "path": "known"},
    "engines": {"energy": {"optimizer": "LBFGS", "max_steps": 100}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder with a campaign, whose training set is zincblende, and other structures."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "campaign.yaml").write_text(yaml.safe_dump(CAMPAIGN))
    (folder / "known").mkdir()
    lattice = Lattice.rhombohedral(3.25, 60)
    zincblende = Structure(lattice, ["Mg", "O"], [[0, 0, 0], [0.25] * 3])
    zincblende.to(str(folder / "known" / "zincblende.cif"))
    frames = [bulk("MgO", "rocksalt", a=4.3), bulk("MgO", "cesiumchloride", a=2.7)]
    frames += [bulk("MgO", "rocksalt", a=2.0), bulk("MnO", "rocksalt", a=4.4)]
    write(folder / "model.extxyz", frames)
    (folder / "sought").mkdir()
    rocksalt().make_supercell([2, 1, 1], in_place=False).to(str(folder / "sought" / "a.cif"))
    zincblende.to(str(folder / "sought" / "b.cif"))
    (folder / "sought" / "broken.cif").write_text("data_x\n_cell_length_a 1\n")
    return folder


def evaluate(folder, source, *arguments):
    command = ["evaluate", folder / source, "-c", folder / "campaign.yaml", "-w", folder / "runs"]
    return runner.invoke(app, [str(word) for word in (*command, "-j", 1, *arguments)])


def test_structures_of_another_model(folder):
    options = ("--rediscover", folder / "sought", "--export", "-o", folder / "report")
    result = evaluate(folder, "model.extxyz", *options)
    assert result.exit_code == 0, result.output
    assert "model.extxyz#4 (has Mn)" in " ".join(result.output.split())
    assert "broken.cif" in result.output
    report = Report.model_validate_json((folder / "report" / "evaluation.json").read_text())
    (evaluation,) = report.evaluations
    assert evaluation.proposer == "model.extxyz"
    assert [sample.label for sample in evaluation.samples] == [
        f"model.extxyz#{i}" for i in (1, 2, 3)
    ]
    assert evaluation.samples[0].decomposition_energy == pytest.approx(0, abs=0.005)
    assert evaluation.samples[0].rmsd == pytest.approx(0, abs=0.01)
    assert evaluation.samples[0].novel is False
    assert evaluation.samples[2].outcome is Outcome.INVALID
    assert evaluation.overall.n_relaxed == 3

    (found,) = report.rediscoveries
    assert [target.formula for target in report.targets.targets] == ["MgO"]
    assert (found.as_generated.k, found.relaxed.k, found.relaxed.n) == (1, 1, 1)
    exported = read(folder / "report" / "model.extxyz-samples.extxyz", ":")
    assert len(exported) == 3
    assert (folder / "report" / "model.extxyz-relaxed.zip").exists()

    again = evaluate(folder, "report/model.extxyz-samples.zip", "--relax", 0, "--format", "json")
    assert Report.model_validate_json(again.stdout).evaluations[0].overall.valid.k == 2


def test_overlaps_are_removed_on_request(folder):
    result = evaluate(folder, "model.extxyz", "--remove-overlaps", "--relax", 0, "--format", "json")
    (evaluation,) = Report.model_validate_json(result.stdout).evaluations
    assert evaluation.overall.valid_before_declash.k == 2
    assert evaluation.overall.valid.k == 3


def test_array_of_crystals_to_be_found(folder):
    system = mg_o().chemical_system
    crystals = [rocksalt(), cesium_chloride()]
    np.savez(folder / "rows.npz", images=encode(crystals, system))
    other = folder / "campaign.yaml"
    other.write_text(
        yaml.safe_dump(CAMPAIGN | {"chemical_system": {"caps": dict(system.caps.items())}})
    )
    result = evaluate(
        folder,
        "known",
        "--rediscover",
        folder / "rows.npz",
        "--window",
        0.05,
        "--relax",
        0,
        "--format",
        "json",
    )
    other.write_text(yaml.safe_dump(CAMPAIGN))
    assert result.exit_code == 0, result.output
    report = Report.model_validate_json(result.stdout)
    assert [target.label for target in report.targets.targets] == ["rows.npz row 0"]
    assert report.rediscoveries[0].as_generated.k == 0


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        ("missing", (), "missing"),
        ("campaign.yaml", (), "campaign.yaml"),
        ("model.extxyz", ("--rediscover", "nowhere"), "--rediscover"),
        ("model.extxyz", ("--rediscover", "rows.npy"), "--rediscover rows.npy"),
    ],
)
def test_unreadable_source_is_a_user_error(folder, source, arguments, message):
    result = evaluate(folder, source, *arguments)
    assert result.exit_code == 2
    assert "gan-htvs: " in result.stderr
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
