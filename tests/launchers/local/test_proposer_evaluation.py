from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import yaml
from pymatgen.core import Lattice, Structure
from typer.testing import CliRunner

from gan_htvs.campaign.campaign_file import read_campaign
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.core.statistics import Share
from gan_htvs.dataset.training_set import build_dataset
from gan_htvs.evaluation.evaluation_documents import Outcome, Report
from gan_htvs.generator.checkpoint import TrainedGenerator
from gan_htvs.generator.presets import PRESETS
from gan_htvs.generator.training import train
from launchers.cli.evaluation_tables import print_report, share_text
from launchers.cli.main import app

runner = CliRunner()

CAMPAIGN = {
    "name": "magnesia",
    "chemical_system": {"caps": {"Mg": 2, "O": 2}},
    "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
    "dataset": {"held_out": 0.3},
    "engines": {"energy": {"optimizer": "LBFGS", "max_steps": 100}},
}
PARAMETERS = replace(
    PRESETS["paper"],
    width=0.05,
    noise_dim=8,
    critic_steps=1,
    generator_learning_rate=2e-3,
    critic_learning_rate=2e-3,
    classifier_learning_rate=5e-3,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder with a campaign file and a generator that was trained for some seconds."""
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "campaign.yaml").write_text(yaml.safe_dump(CAMPAIGN))
    campaign = read_campaign(folder / "campaign.yaml")
    training, _ = build_dataset(
        campaign.chemical_system, campaign.oxidation_states, campaign.dataset
    ).split(campaign.dataset.held_out)
    trained = train(
        training.images,
        training.counts,
        campaign.chemical_system,
        PARAMETERS,
        max_steps=200,
        seed=0,
    )
    trained.dataset = training.hash
    (folder / "model.safetensors").write_bytes(trained.to_bytes())
    return folder


def untrained_generator(system: ChemicalSystem) -> bytes:
    """Return the checkpoint of a generator with reproducible random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TrainedGenerator.build(system, PARAMETERS, seed=0).to_bytes()


def evaluate(folder, *arguments, checkpoint="model.safetensors"):
    fixed = ["evaluate", folder / checkpoint, "-c", folder / "campaign.yaml", "-w", folder / "runs"]
    fixed += ["--workers", 1, "--samples", 3, "--relax", 1]
    return runner.invoke(app, [str(argument) for argument in (*fixed, *arguments)])


def test_report_is_reproducible(folder):
    against = ("--compositions", "Mg2O2", "MgO", "--against", "random", "substitution")
    first = evaluate(folder, *against)
    assert first.exit_code == 0, first.output
    assert "S.U.N." in first.output
    assert "published" not in first.output  # only for Mg-Mn-O
    assert "0 / 0 / 0" in first.output  # holes, not converged, failed
    journal = folder / "runs" / "magnesia" / "relaxations.jsonl"
    cached = journal.read_text()

    again = evaluate(folder, *against, "--format", "json", "--output", folder / "again")
    report = Report.model_validate(json.loads(again.stdout))
    assert journal.read_text() == cached
    assert [e.proposer for e in report.evaluations] == ["gan", "random", "substitution"]
    stored = folder / "runs" / "magnesia" / report.folder / "evaluation.json"
    assert stored.read_text() == (folder / "again" / "evaluation.json").read_text()
    for evaluation in report.evaluations:
        assert evaluation.level_of_theory == "CHGNet-0.3.0"
        assert [m.composition for m in evaluation.compositions] == ["Mg2O2", "MgO"]
        # One structure of each composition; the generator may have found none.
        sampled = {sample.composition for sample in evaluation.samples}
        assert evaluation.overall.n_relaxed == len(sampled)
        assert evaluation.proposer == "gan" or len(sampled) == 2
    # The first decoration of MgO is rocksalt, a reference phase.
    rocksalt = next(s for s in report.evaluations[2].samples if s.composition == "MgO")
    assert rocksalt.decomposition_energy == pytest.approx(0, abs=0.005)
    assert rocksalt.novel is False


def test_reports_of_other_settings_have_other_folders(folder):
    (folder / "narrower.yaml").write_text(
        yaml.safe_dump(
            CAMPAIGN | {"stages": [{"name": "near", "property": "energy_above_hull", "max": 0.15}]}
        )
    )
    runs = folder / "settings"
    fixed = ("--workdir", runs, "--compositions", "MgO", "--atoms-per-cell", 2, "--relax", 0)
    for options in (
        (),
        ("--samples", 2),
        ("--seed", 1),
        ("--against", "random"),
        ("--atoms-per-cell", 4),
        ("--campaign", folder / "narrower.yaml"),
    ):
        before = set(runs.rglob("evaluation.json"))
        for _ in range(2):
            result = evaluate(folder, *fixed, *options)
            assert result.exit_code == 0, result.output
            new = set(runs.rglob("evaluation.json")) - before
            assert len(new) == 1
            assert str(*new) in result.output


def test_failed_relaxations_are_not_counted_as_holes(folder, capsys):
    options = ("--compositions", "MgO", "--relax", 0, "--format", "json", "-o", folder / "outcomes")
    report = Report.model_validate_json(evaluate(folder, *options).stdout)
    report.evaluations[0].overall.outcomes = {
        Outcome.SOUND: 9,
        Outcome.HOLE: 2,
        Outcome.IMPLAUSIBLE: 1,
        Outcome.NOT_CONVERGED: 5,
        Outcome.FAILED: 4,
    }
    print_report(report, [])
    assert "9 / 3 / 5 / 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--against", "random", "other"), "--against: 'other'"),
        (("--compositions", "MgO2"), "'MgO2'"),
        (("--compositions", "MgMnO"), "Mn"),
        (("--compositions", "MgO", "--atoms-per-cell", "3"), "atoms_per_cell 3"),
        (("--atoms-per-cell", "2"), "--compositions"),
    ],
)
def test_invalid_names_are_user_errors(folder, arguments, message):
    result = evaluate(folder, *arguments)
    assert result.exit_code == 2
    assert result.output.startswith("gan-htvs: ")
    assert message in result.output
    assert "Traceback" not in result.output


def test_evaluation_without_reference_phases(folder):
    chromia = CAMPAIGN | {
        "name": "chromia",
        "chemical_system": {"caps": {"Cr": 2, "O": 5}},
        "oxidation_states": {"Cr": [2, 6], "O": [-2, -2]},
        "sampling": {"max_tries_per_structure": 20},
    }
    (folder / "chromia.yaml").write_text(yaml.safe_dump(chromia))
    campaign = read_campaign(folder / "chromia.yaml")
    untrained = untrained_generator(campaign.chemical_system)
    (folder / "chromia.safetensors").write_bytes(untrained)

    def evaluate_chromia(*arguments):
        fixed = ("-c", folder / "chromia.yaml", "--compositions", "Cr2O4", "--against")
        return evaluate(
            folder, *fixed, "substitution", *arguments, checkpoint="chromia.safetensors"
        )

    failed = evaluate_chromia("--relax", 1)
    assert failed.exit_code == 2
    assert "Cr" in failed.output

    printed = evaluate_chromia("--relax", 0)
    assert printed.exit_code == 0, printed.output
    assert "No reference phases are known for Cr-O" in printed.output
    for word in ("relaxation", "relaxed", "S.U.N.", "stable", "published", "CHGNet"):
        assert word not in printed.output
    report = Report.model_validate(
        json.loads(evaluate_chromia("--relax", 0, "--format", "json").stdout)
    )
    decorated = report.evaluations[1]
    assert decorated.reference_phases == 0
    assert decorated.overall.novel.k < decorated.overall.novel.n
    assert decorated.overall.n_relaxed == 0


def test_invalid_checkpoints_are_user_errors(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "half.safetensors").write_bytes(data[: len(data) // 2])
    other = ChemicalSystem(caps={"V": 2, "O": 2})
    (folder / "other.safetensors").write_bytes(
        TrainedGenerator.build(other, PARAMETERS, seed=0).to_bytes()
    )
    for name in ("half.safetensors", "other.safetensors", "none.safetensors"):
        result = evaluate(folder, checkpoint=name)
        assert result.exit_code == 2
        assert name in "".join(result.output.split())


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (Share(k=1, n=4), "1/4 25 % (5-70)"),
        (Share(k=368, n=3300), "368/3300 11.2 % (10.1-12.3)"),
        (Share(k=0, n=0), "0/0"),
        (None, "-"),
    ],
)
def test_text_of_shares(share, text):
    assert share_text(share) == text


def test_other_training_set_is_a_user_error(folder):
    other = CAMPAIGN | {"dataset": {"held_out": 0.0}}
    (folder / "other.yaml").write_text(yaml.safe_dump(other))
    result = evaluate(folder, "-c", folder / "other.yaml")
    assert result.exit_code == 2
    assert "(section dataset)" in " ".join(result.stderr.split())


def test_evaluation_of_the_shipped_generator(tmp_path):
    command = ["init", str(tmp_path)]
    assert runner.invoke(app, command).exit_code == 0
    command = ["evaluate", "shipped", "--campaign", str(tmp_path / "campaign.yaml")]
    options = ["--compositions", "MgMn2O4", "--atoms-per-cell", "7"]
    options += ["--samples", "2", "--relax", "0"]
    result = runner.invoke(app, [*command, *options, "-o", str(tmp_path / "report")])
    assert result.exit_code == 0, result.output
    report = Report.model_validate_json((tmp_path / "report" / "evaluation.json").read_text())
    assert report.evaluations[0].overall.unique.k == 2
    assert report.evaluations[0].held_out_structures > 50


@pytest.fixture
def alloy(tmp_path):
    """Folder with a campaign of Mg and Al, without anions, and an untrained generator."""
    structures = tmp_path / "structures"
    structures.mkdir()
    Structure(Lattice.cubic(3.2), ["Mg", "Al"], [[0, 0, 0], [0.5] * 3]).to(
        str(structures / "cscl.cif")
    )
    document = CAMPAIGN | {
        "name": "alloy",
        "chemical_system": {"caps": {"Mg": 2, "Al": 2}},
        "oxidation_states": {"Mg": [0, 0], "Al": [0, 0]},
        "dataset": {"source": "folder", "path": "structures"},
        "sampling": {"max_tries_per_structure": 10},
    }
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(document))
    campaign = read_campaign(tmp_path / "campaign.yaml")
    untrained = untrained_generator(campaign.chemical_system)
    (tmp_path / "model.safetensors").write_bytes(untrained)
    return tmp_path


def test_note_about_missing_samples(alloy):
    options = ("--compositions", "MgAl", "Mg2Al2", "--relax", 0, "--format", "json")
    result = evaluate(alloy, *options)
    assert result.exit_code == 0, result.output
    draws = Report.model_validate_json(result.stdout).evaluations[0].draws
    assert [draw.tried for draw in draws] == [30, 30]
    n_found = sum(draw.n_found for draw in draws)
    assert n_found < 6
    note = " ".join(result.stderr.split())
    assert f"gan: {n_found} of the 6 requested structures" in note
    assert "60 raw samples of AlMg, Al2Mg2" in note
    assert "wrong composition (" in note


def test_note_about_fewer_samples_than_relaxations(alloy):
    result = evaluate(alloy, "--compositions", "MgAl2", "--samples", 2, "--relax", 5)
    assert "--samples 2" in " ".join(result.stderr.split())


def test_unsuitable_baseline_is_a_user_error_before_sampling(alloy):
    result = evaluate(alloy, "--compositions", "MgAl", "--relax", 0, "--against", "substitution")
    assert result.exit_code == 2
    assert "'substitution'" in result.stderr
    assert "sampling" not in result.output
    assert "dataset" not in result.output


@pytest.mark.parametrize("folder", ["/proc/nowhere", "model.safetensors/report"])
def test_unwritable_output_is_a_user_error_before_sampling(alloy, folder):
    output = alloy / folder
    result = evaluate(alloy, "--compositions", "MgAl", "--relax", 0, "-o", output)
    assert result.exit_code == 2
    assert f"--output{output}:" in "".join(result.stderr.split())
    assert "sampling" not in result.output

    command = ["dataset", str(alloy / "campaign.yaml"), "-o", str(output / "relaxed.npz")]
    result = runner.invoke(app, [*command, "-w", str(alloy / "runs")])
    assert result.exit_code == 2
    assert f"--output{output}:" in "".join(result.stderr.split())
    assert not (alloy / "runs").exists()


def test_failed_run_leaves_no_output_folder(alloy):
    command = ["evaluate", str(alloy / "none.safetensors"), "-c", str(alloy / "campaign.yaml")]
    result = runner.invoke(app, [*command, "-o", str(alloy / "deep" / "report")])
    assert result.exit_code == 2
    assert not (alloy / "deep").exists()
