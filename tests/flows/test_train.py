from __future__ import annotations

import base64
import hashlib
import os

import numpy as np
import pytest
import torch
import yaml

from flows.train import dataset_of, train_generator
from gan_htvs.campaign import Campaign
from gan_htvs.campaign_file import read_campaign
from gan_htvs.dataset import build_dataset
from gan_htvs.errors import UserError
from gan_htvs.generator.checkpoint import TrainedGenerator, load
from gan_htvs.generator.presets import training_parameters

DOCUMENT = {
    "name": "magnesia",
    "chemical_system": {"caps": {"Mg": 2, "O": 2}},
    "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
    "dataset": {"held_out": 0.3},
    "generator": {"max_steps": 3, "overrides": {"width": 0.05, "noise_dim": 8, "critic_steps": 1}},
}


def run(campaign: Campaign) -> dict:
    """Call the job's function as a worker does."""
    return train_generator.original(campaign)


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("GAN_HTVS_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_held_out_is_never_learnt_from(scratch):
    campaign = Campaign.model_validate(DOCUMENT)
    system, states = campaign.chemical_system, campaign.oxidation_states
    whole = build_dataset(system, states, campaign.dataset)
    training, held_out = whole.split(0.3)
    assert len(held_out)
    assert dataset_of(campaign).hash == training.hash
    output = run(campaign)
    assert output["dataset"]["structures"] == len(training) < len(whole)
    trained = load(base64.b64decode(output["weights"]), expected_sha256=output["sha256"])
    assert trained.dataset == training.hash
    assert trained.steps == 3


def test_a_training_whose_output_was_not_stored_is_there_at_once(scratch, monkeypatch):
    campaign = Campaign.model_validate(DOCUMENT)
    output = run(campaign)
    monkeypatch.delattr("gan_htvs.generator.training.Trainer.step")
    again = scratch / "again"
    again.mkdir()
    monkeypatch.chdir(again)
    assert run(campaign)["weights"] == output["weights"]
    assert (again / "curves.csv").read_text() == (scratch / "curves.csv").read_text()
    assert (again / "curves.png").exists()


def test_what_does_not_fit_into_memory_is_told(scratch, monkeypatch):
    def allocate(*_):
        torch.empty(2**55)

    monkeypatch.setattr("gan_htvs.generator.training.Trainer.step", allocate)
    with pytest.raises(UserError, match=r"not enough memory for width 0\.05, batch_size 32"):
        run(Campaign.model_validate(DOCUMENT))


def test_states_of_long_ago_are_removed(scratch):
    old = scratch / "scratch" / "training-0.safetensors"
    old.parent.mkdir()
    old.touch()
    os.utime(old, (0, 0))
    run(Campaign.model_validate(DOCUMENT))
    (state,) = old.parent.iterdir()
    assert state != old


def test_a_named_checkpoint_is_adopted_byte_by_byte(scratch):
    system = Campaign.model_validate(DOCUMENT).chemical_system
    parameters = training_parameters("paper", {"width": 0.05, "noise_dim": 8})
    TrainedGenerator.build(system, parameters, seed=1).save(scratch / "model.safetensors")
    document = DOCUMENT | {"generator": {"checkpoint": "model.safetensors"}}
    (scratch / "campaign.yaml").write_text(yaml.safe_dump(document))
    campaign = read_campaign(scratch / "campaign.yaml")
    output = run(campaign)
    stored = (scratch / "model.safetensors").read_bytes()
    assert base64.b64decode(output["weights"]) == stored
    assert output["sha256"] == hashlib.sha256(stored).hexdigest() == campaign.generator.sha256
    assert output["dataset"] is None

    weights = np.frombuffer(stored, dtype=np.uint8).copy()
    weights[-1] ^= 1
    (scratch / "model.safetensors").write_bytes(weights.tobytes())
    with pytest.raises(UserError, match="was changed or truncated"):
        run(campaign)


def test_a_checkpoint_of_another_chemical_system_is_refused(scratch):
    other = Campaign.model_validate(
        DOCUMENT | {"chemical_system": {"caps": {"Mg": 3, "O": 3}}}
    ).chemical_system
    parameters = training_parameters("paper", {"width": 0.05, "noise_dim": 8})
    TrainedGenerator.build(other, parameters, seed=1).save(scratch / "model.safetensors")
    document = DOCUMENT | {"generator": {"checkpoint": "model.safetensors"}}
    (scratch / "campaign.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(UserError, match="trained for Mg 3, O 3"):
        run(read_campaign(scratch / "campaign.yaml"))
