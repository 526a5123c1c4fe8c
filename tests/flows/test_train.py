from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from flows.campaign import CampaignFlows
from flows.train import TrainMaker
from gan_htvs.campaign.campaign_file import read_campaign
from gan_htvs.campaign.model import Campaign
from gan_htvs.core.errors import UserError
from gan_htvs.dataset.training_set import build_dataset
from gan_htvs.generator.checkpoint import TrainedGenerator, load
from gan_htvs.generator.presets import training_parameters
from tests.helpers import memory_store

DOCUMENT = {
    "name": "magnesia",
    "chemical_system": {"caps": {"Mg": 2, "O": 2}},
    "oxidation_states": {"Mg": [2, 2], "O": [-2, -2]},
    "dataset": {"held_out": 0.3},
    "generator": {"max_steps": 3, "overrides": {"width": 0.05, "noise_dim": 8, "critic_steps": 1}},
}


def run(campaign: Campaign) -> dict:
    """Run the training job as a worker does and return its output."""
    store, train_job = memory_store(), TrainMaker.of(campaign).make()
    train_job.run(store)
    return store.get_output(train_job.uuid, load=True)


def uuid(campaign: Campaign) -> str:
    return CampaignFlows(campaign).shared["training"].uuid


def campaign_with(**changes) -> Campaign:
    return Campaign.model_validate(DOCUMENT | changes)


def test_uuid_depends_only_on_inputs_of_training():
    plain = uuid(campaign_with())
    assert uuid(campaign_with(name="another", sampling={"structures_per_composition": 99})) == plain
    assert uuid(campaign_with(generator=DOCUMENT["generator"] | {"device": "cpu"})) == plain
    assert uuid(campaign_with(generator=DOCUMENT["generator"] | {"seed": 1})) != plain
    assert uuid(campaign_with(dataset={"held_out": 0.2})) != plain
    assert uuid(campaign_with(oxidation_states={"Mg": [2, 2], "O": [-2, -1]})) != plain
    reordered = campaign_with(chemical_system={"caps": {"O": 2, "Mg": 2}})
    assert uuid(reordered) != plain, "images have rows in the order of the caps"


def test_uuid_depends_on_content_of_dataset_and_checkpoint(tmp_path):
    (tmp_path / "campaign.yaml").write_text(
        yaml.safe_dump(
            DOCUMENT
            | {"dataset": {"source": "array", "path": "images.npy"}}
            | {"generator": {"checkpoint": "model.safetensors"}}
        )
    )
    uuids = []
    for images, model in ((b"1", b"1"), (b"1", b"2"), (b"2", b"2")):
        (tmp_path / "images.npy").write_bytes(images)
        (tmp_path / "model.safetensors").write_bytes(model)
        uuids.append(uuid(read_campaign(tmp_path / "campaign.yaml")))
    assert len(set(uuids)) == 3
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for file in ("campaign.yaml", "images.npy", "model.safetensors"):
        (tmp_path / file).rename(elsewhere / file)
    assert uuid(read_campaign(elsewhere / "campaign.yaml")) == uuids[-1], "in any folder"


def test_uuid_depends_on_name_of_checkpoint_without_hash():
    paths = (None, "shipped", "/x/y")
    uuids = {uuid(campaign_with(generator={"checkpoint": path})) for path in paths}
    assert len(uuids) == 3


def test_held_out_structures_are_not_used_for_training():
    campaign = Campaign.model_validate(DOCUMENT)
    system, states = campaign.chemical_system, campaign.oxidation_states
    whole = build_dataset(system, states, campaign.dataset)
    training, held_out = whole.split(0.3)
    assert len(held_out)
    assert TrainMaker.of(campaign).training_set().hash == training.hash
    output = run(campaign)
    assert output["dataset"]["structures"] == len(training) < len(whole)
    trained = load(base64.b64decode(output["weights"]), expected_sha256=output["sha256"])
    assert trained.dataset == training.hash
    assert trained.steps == 3


def test_finished_training_without_stored_output_is_not_repeated(tmp_path, monkeypatch):
    campaign = Campaign.model_validate(DOCUMENT)
    output, first = run(campaign), Path.cwd()

    def refuse_step(*_):
        raise AssertionError("nothing is trained again")

    monkeypatch.setattr("gan_htvs.generator.training.Trainer.step", refuse_step)
    again = tmp_path / "again"
    again.mkdir()
    monkeypatch.chdir(again)
    assert run(campaign)["weights"] == output["weights"]
    assert (again / "curves.csv").read_text() == (first / "curves.csv").read_text()
    assert (again / "curves.png").exists()


def test_insufficient_memory_is_a_user_error(monkeypatch):
    def allocate(*_):
        torch.empty(2**55)

    monkeypatch.setattr("gan_htvs.generator.training.Trainer.step", allocate)
    with pytest.raises(UserError, match=r"width 0\.05, batch_size 32"):
        run(Campaign.model_validate(DOCUMENT))


def test_old_training_states_are_removed(scratch):
    old = scratch / "training-0.safetensors"
    scratch.mkdir()
    old.touch()
    os.utime(old, (0, 0))
    run(Campaign.model_validate(DOCUMENT))
    (state,) = scratch.iterdir()
    assert state != old


def test_checkpoint_file_is_stored_unchanged(tmp_path):
    system = Campaign.model_validate(DOCUMENT).chemical_system
    parameters = training_parameters("paper", {"width": 0.05, "noise_dim": 8})
    (tmp_path / "model.safetensors").write_bytes(
        TrainedGenerator.build(system, parameters, seed=1).to_bytes()
    )
    document = DOCUMENT | {"generator": {"checkpoint": "model.safetensors"}}
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(document))
    campaign = read_campaign(tmp_path / "campaign.yaml")
    output = run(campaign)
    stored = (tmp_path / "model.safetensors").read_bytes()
    assert base64.b64decode(output["weights"]) == stored
    assert output["sha256"] == hashlib.sha256(stored).hexdigest() == campaign.generator.sha256
    assert output["dataset"] is None

    weights = np.frombuffer(stored, dtype=np.uint8).copy()
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights.tobytes())
    with pytest.raises(UserError, match=r"model\.safetensors"):
        run(campaign)


def test_checkpoint_of_another_chemical_system_is_refused(tmp_path):
    other = Campaign.model_validate(
        DOCUMENT | {"chemical_system": {"caps": {"Mg": 3, "O": 3}}}
    ).chemical_system
    parameters = training_parameters("paper", {"width": 0.05, "noise_dim": 8})
    (tmp_path / "model.safetensors").write_bytes(
        TrainedGenerator.build(other, parameters, seed=1).to_bytes()
    )
    document = DOCUMENT | {"generator": {"checkpoint": "model.safetensors"}}
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(UserError, match="Mg 3, O 3"):
        run(read_campaign(tmp_path / "campaign.yaml"))
