"""The baseline of the training benchmark computes the same as the package."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.generator.augmentation import TrainingImages
from gan_htvs.generator.checkpoint import TrainingState
from gan_htvs.generator.networks import expected_presence
from gan_htvs.generator.presets import PRESETS
from gan_htvs.generator.processor import Processor
from gan_htvs.generator.training import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

SYSTEM = ChemicalSystem(caps={"Mg": 4, "Mn": 3, "O": 5})
PARAMETERS = replace(PRESETS["paper"], width=0.25, noise_dim=16, critic_steps=2)


@pytest.fixture(scope="module")
def conv_baseline(import_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return import_benchmark("conv_baseline")


@pytest.fixture(scope="module")
def data() -> TrainingImages:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, [5, 4, 6], (60, 3))
    images = rng.uniform(0.2, 0.8, (60, 14, 3)).astype(np.float32)
    images[:, 2:] *= expected_presence(torch.as_tensor(counts), SYSTEM.max_counts).numpy()[
        ..., None
    ]
    return TrainingImages(images, counts, SYSTEM)


def test_baseline_networks_have_equal_outputs(
    conv_baseline: ModuleType, data: TrainingImages
) -> None:
    ours = TrainingState.fresh(SYSTEM, PARAMETERS, 0)
    for network in (ours.generator, ours.critic, ours.classifier):
        for name, tensor in network.state_dict().items():
            if name.endswith("bias"):
                tensor.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    baseline = conv_baseline.ConvTraining(data, PARAMETERS, data.counts, torch.Generator())
    conv_baseline.copy_weights(ours, baseline)
    noise = torch.randn(40, 16, generator=torch.Generator().manual_seed(2))
    requested = data.counts[:40]
    for training in (True, False):
        for network in (ours.generator, ours.classifier, baseline.generator, baseline.classifier):
            network.train(training)
        images = ours.generator(noise, requested)
        torch.testing.assert_close(
            baseline.generator(noise, requested)[:, 0], images, atol=1e-5, rtol=0
        )
        image = images.detach()[:, None]
        torch.testing.assert_close(baseline.critic(image), ours.critic(image[:, 0]))
        for reading, (atoms, counts) in zip(
            ours.classifier(image[:, 0]), baseline.classifier(image), strict=True
        ):
            logits = atoms.squeeze(3).transpose(1, 2)
            torch.testing.assert_close(reading.atoms, logits, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(reading.counts, counts, atol=1e-4, rtol=1e-4)


def test_baseline_training_has_equal_losses(
    conv_baseline: ModuleType, data: TrainingImages
) -> None:
    state = TrainingState.fresh(SYSTEM, PARAMETERS, 0)
    ours = Trainer(state, data, data.counts, Processor.choose("cpu", "float32"))
    rng = torch.Generator().manual_seed(0)
    baseline = conv_baseline.ConvTraining(data, PARAMETERS, data.counts, rng)
    conv_baseline.copy_weights(state, baseline)
    before = state.critic.outputs.weight.clone()
    for _ in range(3):
        losses, expected = ours.step(), baseline.step()
        assert losses == pytest.approx(expected, rel=2e-3, abs=2e-4)
    assert torch.equal(rng.get_state(), state.rng.get_state())
    after = baseline.critic.head[-1].weight
    assert (after - before).norm() > 30 * (after - state.critic.outputs.weight).norm()
