from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.special import log_softmax, softmax

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.generator.losses import classifier_loss, set_critic_gradient
from gan_htvs.generator.networks import Classifier, Critic
from gan_htvs.generator.presets import PRESETS

SYSTEM = ChemicalSystem(caps={"V": 3, "O": 4})
COUNTS = torch.tensor([[1, 4], [3, 2], [2, 1]])
PRESENT = [[[1, 0, 0], [1, 1, 1], [1, 1, 0]], [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]]
MG_MN_O = ChemicalSystem(caps={"Mg": 3, "Mn": 2, "O": 4})
N_IMAGES = 6


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 9, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(1)
    return Classifier(SYSTEM, replace(PRESETS["authors"], width=0.1)).eval()


def cross_entropies(
    classifier: Classifier, images: torch.Tensor, *, softmax_twice: bool
) -> tuple[float, float]:
    """Sum the cross entropies of atoms and composition term by term."""
    atoms = composition = 0.0
    with torch.no_grad():
        readings = classifier(images)
    for e, reading in enumerate(readings):
        rows, logits = reading.atoms.numpy(), reading.counts.numpy()
        if softmax_twice:
            rows, logits = softmax(rows, axis=2), softmax(logits, axis=1)
        rows, logits = log_softmax(rows, axis=2), log_softmax(logits, axis=1)
        cap = SYSTEM.max_counts[e]
        for i in range(3):
            composition -= logits[i, COUNTS[i, e] - 1] / 3
            for row in range(cap):
                atoms -= rows[i, row, PRESENT[e][i][row]] / (3 * cap)
    return atoms, composition


def test_paper_applies_lambda_c_to_the_composition(
    classifier: Classifier, images: torch.Tensor
) -> None:
    atoms, composition = cross_entropies(classifier, images, softmax_twice=False)
    loss = classifier_loss(classifier, images, COUNTS, PRESETS["paper"])
    assert loss.item() == pytest.approx(atoms + 0.3 * composition, rel=1e-5)


def test_authors_apply_lambda_c_to_the_atoms_and_softmax_twice(
    classifier: Classifier, images: torch.Tensor
) -> None:
    atoms, composition = cross_entropies(classifier, images, softmax_twice=True)
    with torch.no_grad():
        fill = classifier.fill(images)
    error = ((fill - torch.tensor([5 / 7, 5 / 7, 3 / 7])) ** 2).mean().item()
    authors = PRESETS["authors"]
    loss = classifier_loss(classifier, images, COUNTS, authors)
    assert loss.item() == pytest.approx(0.3 * atoms + composition + 0.1 * error, rel=1e-5)
    generated = classifier_loss(
        classifier,
        images,
        COUNTS,
        replace(authors, lambda_cell=0),
        weight_atoms=authors.lambda_2,
        weight_counts=authors.lambda_1,
    )
    assert generated.item() == pytest.approx(composition, rel=1e-5)


@pytest.fixture
def critic() -> Critic:
    torch.manual_seed(0)
    critic = Critic(MG_MN_O, replace(PRESETS["paper"], width=0.2))
    for parameter in critic.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return critic


def critic_images() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(3)
    shape = (N_IMAGES, 2 + MG_MN_O.max_atoms, 3)
    real, fake = torch.rand(shape, generator=rng), torch.rand(shape, generator=rng)
    return real, fake, torch.rand(N_IMAGES, 1, 1, generator=rng)


def by_autograd(critic: Critic, outputs: int, weight: float) -> tuple[float, float]:
    """Set the gradient by double differentiation; return both parts of the loss."""
    real, fake, mix = critic_images()
    between = (mix * real + (1 - mix) * fake).requires_grad_()
    score = outputs * critic(between).sum()
    (slope,) = torch.autograd.grad(score, between, create_graph=True)
    penalty = (slope.flatten(start_dim=1).norm(dim=1) - 1).square().mean()
    wasserstein = critic(fake).mean() - critic(real).mean()
    (wasserstein + weight * penalty).backward()
    return wasserstein.item(), penalty.item()


@pytest.mark.parametrize(("preset", "outputs"), [("paper", 1), ("authors", 10)])
def test_critic_gradient_equals_autograd(critic: Critic, preset: str, outputs: int) -> None:
    parameters = PRESETS[preset]
    expected = by_autograd(critic, outputs, parameters.gradient_penalty)
    gradients = {name: p.grad for name, p in critic.named_parameters()}
    assert parameters.gradient_penalty == 10
    critic.zero_grad()
    losses = set_critic_gradient(critic, *critic_images(), parameters)
    assert [loss.item() for loss in losses] == pytest.approx(expected, rel=1e-5)
    for name, parameter in critic.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-5)


def test_critic_gradient_in_bfloat16_is_close_to_float32(critic: Critic) -> None:
    set_critic_gradient(critic, *critic_images(), PRESETS["paper"])
    exact = torch.cat([p.grad.flatten() for p in critic.parameters() if p.grad is not None])
    wasserstein, penalty = set_critic_gradient(
        critic, *critic_images(), PRESETS["paper"], precision=torch.bfloat16
    )
    assert wasserstein.dtype == penalty.dtype == torch.float32
    rounded = torch.cat([p.grad.flatten() for p in critic.parameters() if p.grad is not None])
    assert (rounded - exact).norm() < 0.05 * exact.norm()
    assert not torch.equal(rounded, exact)


def test_penalty_of_a_linear_critic_follows_from_its_gradient(critic: Critic) -> None:
    # All weights and inputs are positive, so the score is linear.
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.abs_().mul_(0.1)
    real, fake, mix = critic_images()
    weight = [layer.weight.double() for layer in (*critic.rows[::2], *critic.head[::2])]
    head = critic.outputs.weight.double().mean(dim=0) @ weight[4] @ weight[3]
    pools = head.view(len(critic.pooling), -1) @ weight[2] @ weight[1] @ weight[0]
    slope = critic.pooling.double().T @ pools
    _, penalty = set_critic_gradient(critic, real, fake, mix, PRESETS["paper"])
    assert penalty.item() == pytest.approx((slope.norm().item() - 1) ** 2, rel=1e-4)


def test_constant_critic_has_penalty_one_and_a_finite_gradient(critic: Critic) -> None:
    with torch.no_grad():
        critic.outputs.weight.zero_()
    _, penalty = set_critic_gradient(
        critic, *critic_images(), replace(PRESETS["paper"], gradient_penalty=1)
    )
    assert penalty.item() == 1
    assert all(p.grad is not None and p.grad.isfinite().all() for p in critic.parameters())
