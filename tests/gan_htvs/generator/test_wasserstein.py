from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.generator.losses import set_critic_gradient
from gan_htvs.generator.networks import Critic
from gan_htvs.generator.presets import PRESETS

SYSTEM = ChemicalSystem(caps={"Mg": 3, "Mn": 2, "O": 4})
N = 6


@pytest.fixture
def critic() -> Critic:
    torch.manual_seed(0)
    critic = Critic(SYSTEM, replace(PRESETS["paper"], width=0.2))
    for parameter in critic.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return critic


def images() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(3)
    shape = (N, 2 + SYSTEM.max_atoms, 3)
    real, fake = torch.rand(shape, generator=rng), torch.rand(shape, generator=rng)
    return real, fake, torch.rand(N, 1, 1, generator=rng)


def by_autograd(critic: Critic, outputs: int, weight: float) -> tuple[float, float]:
    """Set the gradient by differentiating twice; return both parts of the loss."""
    real, fake, mix = images()
    between = (mix * real + (1 - mix) * fake).requires_grad_()
    score = outputs * critic(between).sum()
    (slope,) = torch.autograd.grad(score, between, create_graph=True)
    penalty = (slope.flatten(start_dim=1).norm(dim=1) - 1).square().mean()
    wasserstein = critic(fake).mean() - critic(real).mean()
    (wasserstein + weight * penalty).backward()
    return wasserstein.item(), penalty.item()


@pytest.mark.parametrize(("preset", "outputs"), [("paper", 1), ("authors", 10)])
def test_the_gradient_is_that_of_autograd(critic: Critic, preset: str, outputs: int) -> None:
    parameters = PRESETS[preset]
    expected = by_autograd(critic, outputs, parameters.gradient_penalty)
    gradients = {name: p.grad for name, p in critic.named_parameters()}
    assert parameters.gradient_penalty == 10
    critic.zero_grad()
    losses = set_critic_gradient(critic, *images(), parameters)
    assert [loss.item() for loss in losses] == pytest.approx(expected, rel=1e-5)
    for name, parameter in critic.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-5)


def test_bfloat16_points_the_same_way(critic: Critic) -> None:
    set_critic_gradient(critic, *images(), PRESETS["paper"])
    exact = torch.cat([p.grad.flatten() for p in critic.parameters() if p.grad is not None])
    wasserstein, penalty = set_critic_gradient(
        critic, *images(), PRESETS["paper"], precision=torch.bfloat16
    )
    assert wasserstein.dtype == penalty.dtype == torch.float32
    rounded = torch.cat([p.grad.flatten() for p in critic.parameters() if p.grad is not None])
    assert (rounded - exact).norm() < 0.05 * exact.norm()
    assert not torch.equal(rounded, exact)


def test_the_penalty_of_a_plane_is_that_of_its_slope(critic: Critic) -> None:
    # All weights and inputs positive: no rectifier bends, the score is a plane.
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.abs_().mul_(0.1)
    real, fake, mix = images()
    weight = [layer.weight.double() for layer in (*critic.rows[::2], *critic.head[::2])]
    head = critic.outputs.weight.double().mean(dim=0) @ weight[4] @ weight[3]
    pools = head.view(len(critic.pooling), -1) @ weight[2] @ weight[1] @ weight[0]
    slope = critic.pooling.double().T @ pools
    _, penalty = set_critic_gradient(critic, real, fake, mix, PRESETS["paper"])
    assert penalty.item() == pytest.approx((slope.norm().item() - 1) ** 2, rel=1e-4)


def test_a_flat_critic_has_no_slope_and_a_finite_gradient(critic: Critic) -> None:
    with torch.no_grad():
        critic.outputs.weight.zero_()
    _, penalty = set_critic_gradient(
        critic, *images(), replace(PRESETS["paper"], gradient_penalty=1)
    )
    assert penalty.item() == 1
    assert all(p.grad is not None and p.grad.isfinite().all() for p in critic.parameters())
