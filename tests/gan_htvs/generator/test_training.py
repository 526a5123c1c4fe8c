from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from pymatgen.core import Structure

from gan_htvs.chemistry import ChemicalSystem
from gan_htvs.errors import UserError
from gan_htvs.generator.networks import Critic
from gan_htvs.generator.presets import PRESETS, TrainingParameters, training_parameters
from gan_htvs.generator.training import TrainingImages, _critic_losses, augment, train
from gan_htvs.matching import structure_matcher
from gan_htvs.pointcloud import decode, encode

if TYPE_CHECKING:
    from pathlib import Path

    from gan_htvs.generator.checkpoint import TrainedGenerator

V_O = ChemicalSystem(caps={"V": 2, "O": 5})
TINY = replace(PRESETS["paper"], width=0.05, noise_dim=8, batch_size=8, critic_steps=2)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Six cells of two compositions, five of them VO2-like."""
    rng = np.random.default_rng(0)
    cells = [
        Structure(np.diag([3.0, 4.5, 5.0 + i / 5]), ["V"] * v + ["O"] * o, rng.random((v + o, 3)))
        for i, (v, o) in enumerate([(1, 2)] * 5 + [(2, 5)])
    ]
    return encode(cells, V_O)


@pytest.fixture(scope="module")
def counts(images: np.ndarray) -> np.ndarray:
    return decode(images, V_O).counts


def weights(trained: TrainedGenerator) -> torch.Tensor:
    tensors = trained.generator.state_dict().values()
    return torch.cat([tensor.flatten().double() for tensor in tensors])


def test_augmentation_describes_the_same_crystal(images: np.ndarray, counts: np.ndarray) -> None:
    rng = torch.Generator().manual_seed(1)
    changed = augment(torch.as_tensor(images), torch.as_tensor(counts), V_O, rng).numpy()
    assert not np.allclose(changed, images)
    matcher = structure_matcher()
    for before, after in zip(
        decode(images, V_O).to_structures(), decode(changed, V_O).to_structures(), strict=True
    ):
        assert isinstance(before, Structure)
        assert isinstance(after, Structure)
        assert after.composition == before.composition
        assert matcher.get_rms_dist(before, after)[0] < 1e-3


def test_augmentation_keeps_padding_clean_and_last(images: np.ndarray, counts: np.ndarray) -> None:
    rng = torch.Generator().manual_seed(2)
    changed = augment(torch.as_tensor(images), torch.as_tensor(counts), V_O, rng).numpy()
    rows = changed[:, 2:]
    assert (rows[:, 1][counts[:, 0] == 1] == 0).all()
    assert (rows[:, 4:][counts[:, 1] == 2] == 0).all()
    assert (rows[:, [0, 2, 3]].sum(axis=2) >= 0.5 - 1e-6).all()


def test_each_composition_is_drawn_equally_often(images: np.ndarray, counts: np.ndarray) -> None:
    data = TrainingImages(images, counts, V_O)
    _, drawn = data.draw(4000, torch.Generator().manual_seed(0))
    assert (drawn[:, 0] == 2).float().mean() == pytest.approx(0.5, abs=0.04)


def test_the_gradient_penalty_is_that_of_a_known_slope() -> None:
    critic = Critic(V_O, width=0.05)
    real, fake = torch.rand(4, 9, 3), torch.rand(4, 9, 3)

    class Plane(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 3 * x[:, 0, 0]

    wasserstein, penalty = _critic_losses(Plane(), real, fake, torch.Generator())  # type: ignore[arg-type]
    assert penalty.item() == pytest.approx((3 - 1) ** 2)
    expected = 3 * (fake[:, 0, 0].mean() - real[:, 0, 0].mean())
    assert wasserstein.item() == pytest.approx(expected.item(), abs=1e-6)

    _critic_losses(critic, real, fake, torch.Generator())[1].backward()
    gradients = [p.grad for p in critic.parameters() if p.dim() == 2]
    assert all(g is not None and g.abs().sum() > 0 for g in gradients)


def test_the_generator_learns_the_composition(images: np.ndarray, counts: np.ndarray) -> None:
    quick = replace(
        TINY,
        width=0.1,
        batch_size=32,
        critic_steps=1,
        generator_learning_rate=3e-3,
        critic_learning_rate=3e-3,
        classifier_learning_rate=3e-3,
    )
    trained = train(images, counts, V_O, quick, max_steps=120, seed=0)
    asked = torch.tensor([[1, 2], [2, 5]]).repeat(50, 1)
    with torch.no_grad():
        generated = trained.generator(torch.randn(100, 8, generator=torch.Generator()), asked)
        readings = trained.classifier(generated)
    read = torch.stack([reading.counts.argmax(dim=1) + 1 for reading in readings], dim=1)
    assert (read == asked).all(dim=1).float().mean() > 0.8
    first, last = trained.history[0], trained.history[-1]
    assert last["class_generated"] < first["class_generated"] / 2
    assert last["class_real"] < first["class_real"] / 2


def test_an_interrupted_training_ends_where_an_undisturbed_one_does(
    images: np.ndarray, counts: np.ndarray, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def kill(entry: dict[str, float]) -> None:
        if entry["step"] == 5:
            raise Killed

    undisturbed = train(images, counts, V_O, TINY, max_steps=8, seed=3, log_steps=1)
    path = tmp_path / "training.safetensors"
    go = partial(
        train,
        images,
        counts,
        V_O,
        TINY,
        max_steps=8,
        seed=3,
        log_steps=1,
        checkpoint_path=path,
    )
    with pytest.raises(Killed):
        go(on_progress=kill, checkpoint_seconds=0)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]

    seen: list[float] = []
    resumed = go(on_progress=lambda entry: seen.append(entry["step"]))
    assert seen == [5, 6, 7, 8]
    torch.testing.assert_close(weights(resumed), weights(undisturbed), rtol=0, atol=0)
    assert resumed.history == undisturbed.history

    again = go(on_progress=lambda entry: pytest.fail("trained on"))
    assert again.sha256 == resumed.sha256


def test_a_checkpoint_of_another_training_is_refused(
    images: np.ndarray, counts: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "training.safetensors"
    train(images, counts, V_O, TINY, max_steps=1, seed=3, checkpoint_path=path)
    with pytest.raises(UserError, match="belongs to another training"):
        train(images, counts, V_O, TINY, max_steps=1, seed=4, checkpoint_path=path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="no readable checkpoint"):
        train(images, counts, V_O, TINY, max_steps=1, seed=3, checkpoint_path=path)


def test_the_time_limit_counts_and_seeds_decide(images: np.ndarray, counts: np.ndarray) -> None:
    limited = train(images, counts, V_O, TINY, max_steps=10**6, max_seconds=0.3, seed=0)
    assert 0 < limited.steps < 10**5
    first, same, other = (
        weights(train(images, counts, V_O, TINY, max_steps=2, seed=seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_diverged_loss_names_the_step(images: np.ndarray, counts: np.ndarray) -> None:
    wild = replace(TINY, critic_learning_rate=1e30)
    with pytest.raises(UserError, match=r"not finite at step [0-9]+; lower the learning rates"):
        train(images, counts, V_O, wild, max_steps=20, seed=0, log_steps=1)


def test_arrays_of_another_system_are_refused(images: np.ndarray, counts: np.ndarray) -> None:
    with pytest.raises(ValueError, match="do not belong to O-V"):
        train(images[:, :-1], counts, V_O, TINY, max_steps=1, seed=0)
    with pytest.raises(ValueError, match="between 1 and"):
        train(images, counts * 0, V_O, TINY, max_steps=1, seed=0)


def test_presets_can_be_overridden_by_field() -> None:
    assert training_parameters() == TrainingParameters()
    changed = training_parameters("paper", {"critic_steps": 2, "lambda_c": 1})
    assert (changed.critic_steps, changed.lambda_c) == (2, 1.0)
    assert changed.generator_learning_rate == 1e-4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"critic_step": 2}, "did you mean 'critic_steps'"),
        ({"zzz": 2}, "known are noise_dim"),
        ({"batch_size": 2.5}, "batch_size: 2.5 must be a whole number"),
        ({"width": -1}, "width = -1.0 is out of range"),
        ({"beta1": 1}, "beta1 = 1.0 is out of range"),
    ],
)
def test_wrong_overrides_are_one_sentence(overrides: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        training_parameters("paper", overrides)


def test_an_unknown_preset_is_one_sentence() -> None:
    with pytest.raises(UserError, match="no preset 'papre'; use one of paper"):
        training_parameters("papre")
