from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import torch
import yaml
from pymatgen.core import Lattice, Structure
from rich.console import Console
from typer.testing import CliRunner

from gan_htvs.campaign.campaign_file import read_campaign
from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.generator.checkpoint import deserialize, load, read_bytes
from launchers.cli.main import app
from launchers.console import output as console
from launchers.local.generator_training import train_campaign

if TYPE_CHECKING:
    from pathlib import Path

CAPS = {"Mg": 2, "O": 2}
OVERRIDES = {"width": 0.1, "noise_dim": 8, "batch_size": 8, "critic_steps": 1}
STEPS = 400


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    return write(tmp_path, device="cpu")


def write(folder: Path, **generator: object) -> Path:
    path = folder / "campaign.yaml"
    document = {
        "name": "magnesia",
        "chemical_system": {"caps": CAPS},
        "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
        "generator": {"max_steps": STEPS, "overrides": OVERRIDES, **generator},
    }
    path.write_text(yaml.safe_dump(document))
    return path


def test_stopped_training_continues_with_the_same_command(campaign: Path) -> None:
    model = campaign.parent / "model"
    program = [sys.executable, "-m", "launchers.cli.main"]
    command = [*program, "train", str(campaign), "-o", str(model), "--half"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        while process.poll() is None and not (model / "curves.csv").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGUSR1)
        process.communicate()
    assert process.returncode == 130
    assert not list(model.glob("generator-*"))
    (state,) = model.glob("training.safetensors")
    taken = deserialize(read_bytes(state), "state")[1]["step"]

    result = CliRunner().invoke(app, command[3:])
    assert result.exit_code == 0, result.output
    assert re.search(rf"after step {taken}, \d+ s on cpu", result.output)
    (checkpoint,) = model.glob("generator-*.safetensors")
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert checkpoint.stem == f"generator-{digest[:12]}"
    assert str(checkpoint) in result.output.replace("\n", "")
    trained = load(checkpoint, system=ChemicalSystem(caps=CAPS))
    assert (trained.steps, trained.half) == (STEPS, True)
    with (model / "curves.csv").open() as file:
        steps = [float(row["step"]) for row in csv.DictReader(file)]
    assert steps == [entry["step"] for entry in trained.history] == list(range(10, STEPS + 1, 10))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_missing_gpu_is_a_user_error(tmp_path: Path) -> None:
    path = write(tmp_path, device="cuda")
    result = CliRunner().invoke(app, ["train", str(path), "-o", str(tmp_path / "model")])
    assert result.exit_code == 2
    assert not (tmp_path / "model").exists()


def test_training_with_a_given_checkpoint_is_a_user_error(tmp_path: Path) -> None:
    path = write(tmp_path, checkpoint="shipped")
    result = CliRunner().invoke(app, ["train", str(path), "-o", str(tmp_path / "model")])
    assert result.exit_code == 2
    assert not (tmp_path / "model").exists()


def test_skipped_structures_are_counted_by_reason(tmp_path: Path) -> None:
    folder = tmp_path / "structures"
    folder.mkdir()
    rocksalt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    rocksalt.to(str(folder / "rocksalt.cif"))
    rocksalt.to(str(folder / "again.cif"))
    Structure.from_spacegroup(
        "F-43m", Lattice.cubic(4.6), ["Mg", "O"], [[0, 0, 0], [0.25, 0.25, 0.25]]
    ).to(str(folder / "zincblende.cif"))
    (folder / "broken.cif").write_text("data_broken\nloop_\n_atom_site_label\n")
    path = write(tmp_path, device="cpu", max_steps=2)
    document = yaml.safe_load(path.read_text())
    document["dataset"] = {"source": "folder", "path": "structures", "max_structures": 1}
    path.write_text(yaml.safe_dump(document))
    result = CliRunner().invoke(app, ["train", str(path), "-o", str(tmp_path / "model")])
    assert result.exit_code == 0, result.output
    assert (
        "3 structures or files of the dataset were skipped: unreadable file (1), duplicate (1), "
        "more than dataset.max_structures (1), namely broken.cif ("
    ) in result.stderr
    duplicate = "rocksalt.cif (duplicate of again.cif, RMS displacement 0.000 A)"
    assert f"{duplicate}, zincblende.cif (more than" in result.stderr
    assert result.stderr.count("note") == 1


def test_progress_bar_counts_down_to_max_seconds(tmp_path, monkeypatch) -> None:
    path = write(tmp_path, device="cpu", max_steps=1_000_000, max_seconds=1.5)
    train_campaign(read_campaign(path), tmp_path / "model")
    terminal = Console(file=io.StringIO(), force_terminal=True, width=200)
    monkeypatch.setattr(console, "out", terminal)
    path = write(tmp_path, device="cpu", max_steps=1_000_000, max_seconds=3.0)
    train_campaign(read_campaign(path), tmp_path / "model")
    remaining = re.findall(r"(\d+) (\w+) left", terminal.file.getvalue())
    assert remaining
    assert set(remaining) <= {("2", "s"), ("1", "s"), ("0", "s")}, "1.5 s of 3 s were used before"
