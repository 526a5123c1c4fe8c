"""Errors of the commands for generators before any work starts."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from launchers.cli.main import app


def error_of(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    return " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("command", ["dataset", "train"])
@pytest.mark.parametrize("output", [["-o", ""], ["--output="]])
def test_empty_output_is_not_the_current_folder(command, output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "--output" in error_of(command, "campaign.yaml", *output)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.txt", "."])
def test_dataset_must_be_an_npz_file(name, tmp_path):
    output = tmp_path / name
    assert f"--output {output}" in error_of("dataset", "missing.yaml", "-o", str(output))


def test_empty_dataset_creates_no_output_folder(tmp_path):
    (tmp_path / "structures").mkdir()
    campaign = tmp_path / "campaign.yaml"
    campaign.write_text(
        "name: magnesia\n"
        "chemical_system: {caps: {Mg: 2, O: 2}}\n"
        "oxidation_states: {Mg: [2, 2], O: [-2, -2]}\n"
        "dataset: {source: folder, path: structures}\n"
    )
    assert "structures" in error_of("train", str(campaign), "-o", str(tmp_path / "model"))
    assert not (tmp_path / "model").exists()
