"""What commands about generators refuse before any work."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from launchers.cli.main import app


def told(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    return " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("command", ["dataset", "train"])
@pytest.mark.parametrize("output", [["-o", ""], ["--output="]])
def test_an_empty_output_is_not_the_current_folder(command, output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "is empty; name a file or folder." in told(command, "campaign.yaml", *output)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "problem"), [("out.txt", "is no .npz file"), (".", "is a folder")]
)
def test_a_dataset_is_an_npz_file(name, problem, tmp_path):
    output = tmp_path / name
    sentence = told("dataset", "missing.yaml", "-o", str(output))
    assert sentence == f"gan-htvs: --output {output}: {problem}; name the .npz file to write."


def test_a_folder_is_not_left_behind_by_a_dataset_that_is_empty(tmp_path):
    (tmp_path / "structures").mkdir()
    campaign = tmp_path / "campaign.yaml"
    campaign.write_text(
        "name: magnesia\n"
        "chemical_system: {caps: {Mg: 2, O: 2}}\n"
        "oxidation_states: {Mg: [2, 2], O: [-2, -2]}\n"
        "dataset: {source: folder, path: structures}\n"
    )
    assert "structures" in told("train", str(campaign), "-o", str(tmp_path / "model"))
    assert not (tmp_path / "model").exists()
