"""Losses of the classifier and the critic.

Kim et al., ACS Cent. Sci. 2020, 6, 1412: L_class = L_atom + lambda_c L_comp, each cross entropy on
real plus lambda_i times on generated images.

The gradient of the critic's loss is computed without differentiating twice.

L = E[D(fake)] - E[D(real)] + lambda E[(|grad D(x_hat)| - 1)^2]   (Kim et al. 2020; Gulrajani et al.
2017 for the penalty), with x_hat between a real and a generated image.

The critic is a chain of linear maps and leaky rectifiers, so it is piecewise linear. With x_l the
input of layer l and s_l the slopes (1 or the leak) of the rectifiers after it, grad D(x_hat) is
the product of all W_l and s_l, from the scores to the image. Three sweeps compute the gradient:

* up, for real, generated and x_hat together: the x_l and the scores;
* down, for all of them: g_l, the derivative of the score with respect to the output of layer l.
  For real and generated images, with a weight of -1/n and 1/n, this is ordinary backpropagation;
  for x_hat it ends at grad D(x_hat);
* up again, for x_hat only: v_l, which starts as the derivative p of the penalty with respect to
  grad D(x_hat) and passes through the same maps, v_{l+1} = s_l (W_l v_l).

grad D is linear in every W_l, so the gradient is g_l x_l^T, summed over real and generated images,
plus g_l v_l^T, summed over x_hat: one product for each layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_htvs.generator.networks import CRITIC_OUTPUTS, LEAK, expected_presence

if TYPE_CHECKING:
    from gan_htvs.generator.networks import Classifier, Critic
    from gan_htvs.generator.presets import TrainingParameters

_TINY = 1e-12
"""Lower bound on the norm of a gradient, to avoid division by zero."""


def classifier_loss(
    classifier: Classifier,
    images: Tensor,
    counts: Tensor,
    parameters: TrainingParameters,
    *,
    weight_atoms: float = 1.0,
    weight_counts: float = 1.0,
) -> Tensor:
    """Compute the cross entropies of both branches, summed over the elements.

    ``images`` (n, 2 + R, 3) contain ``counts`` (n, E) atoms. The weights are 1 for real images,
    lambda_2 and lambda_1 for generated ones.
    """
    system = classifier.system
    present = expected_presence(counts, system.max_counts).long()  # (n, R)
    atoms = composition = torch.zeros((), device=counts.device)
    for e, (reading, block) in enumerate(zip(classifier(images), system.blocks, strict=True)):
        rows, atom_counts = reading.atoms.float(), reading.counts.float()  # (n, N_e, 2), (n, N_e)
        if parameters.softmax_twice:
            rows, atom_counts = rows.softmax(dim=2), atom_counts.softmax(dim=1)
        row_present = present[:, block].flatten()
        atoms = atoms + functional.cross_entropy(rows.flatten(end_dim=1), row_present)
        composition = composition + functional.cross_entropy(atom_counts, counts[:, e] - 1)
    if parameters.lambda_c_on_atoms:
        weight_atoms *= parameters.lambda_c
    else:
        weight_counts *= parameters.lambda_c
    loss = weight_atoms * atoms + weight_counts * composition
    if parameters.lambda_cell:
        filled = counts.sum(dim=1) / system.max_atoms
        error = (classifier.fill(images).float() - filled).square().mean()
        loss = loss + parameters.lambda_cell * error
    return loss


@torch.no_grad()
def set_critic_gradient(
    critic: Critic,
    real: Tensor,
    fake: Tensor,
    mix: Tensor,
    parameters: TrainingParameters,
    precision: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Set ``.grad`` of the critic's parameters to the gradient of its loss.

    Parameters
    ----------
    critic
        Critic, whose ``forward`` is differentiated.
    real, fake
        (n, 2 + R, 3) each.
    mix
        (n, 1, 1): x_hat is ``mix * real + (1 - mix) * fake``.
    parameters
        ``gradient_penalty`` is lambda; ``slope_of_sum`` multiplies grad D by the number of outputs
        that D averages.
    precision
        Of the matrix products, except in the layers next to the image and the scores.

    Returns
    -------
    wasserstein
        E[D(fake)] - E[D(real)].
    penalty
        Gradient penalty without lambda.
    """
    n = len(real)
    layers = [*_linear(critic.rows), *_linear(critic.head)]
    weights = [layer.weight.to(precision) for layer in layers]
    biases = [layer.bias.to(precision) for layer in layers]
    pooling = critic.pooling.to(precision)
    first_of_head = len(_linear(critic.rows))

    images = torch.cat([real, fake, mix * real + (1 - mix) * fake])  # (3 n, 2 + R, 3)
    x: list[Tensor] = [images.flatten(end_dim=1)]  # (3 n (2 + R), 3)
    for i, layer in enumerate(layers):
        z = functional.linear(x[i], weights[i], biases[i]) if i else layer(x[i]).to(precision)
        x.append(functional.leaky_relu(z, LEAK, inplace=True))
        if i + 1 == first_of_head:
            rows = x[-1]
            x[-1] = (pooling @ rows.unflatten(0, images.shape[:2])).flatten(start_dim=1)
    scores = critic.outputs(x[-1].float()).mean(dim=1)  # (3 n,)

    share = torch.ones(3 * n, 1, device=real.device)
    share[:n], share[n : 2 * n] = -1 / n, 1 / n
    down = (share * critic.outputs.weight.mean(dim=0)).to(precision)  # (3 n, 200)
    g: list[Tensor] = []
    for i in reversed(range(len(layers))):
        after = x[i + 1]
        if i + 1 == first_of_head:
            after = rows
            down = (pooling.T @ down.unflatten(1, (len(pooling), -1))).flatten(end_dim=1)
        g.insert(0, _times_slope_of_leak(down, after))
        down = g[0] @ weights[i]
    slope = down.float().view_as(images)[2 * n :]  # (n, 2 + R, 3)
    norm = slope.flatten(start_dim=1).norm(dim=1).clamp_min(_TINY)[:, None, None]
    outputs = CRITIC_OUTPUTS if parameters.slope_of_sum else 1
    excess = outputs * norm - 1
    penalty = excess.square().mean()

    # The v_l replace the x_l of x_hat, which are no longer needed.
    up = parameters.gradient_penalty * 2 * outputs / n * excess / norm * slope
    up = up.flatten(end_dim=1).to(precision)
    for i, layer in enumerate(layers):
        x[i][-len(up) :] = up
        layer.weight.grad = (g[i].T @ x[i].to(precision)).float()
        layer.bias.grad = g[i][: -len(up)].sum(dim=0).float()
        if i + 1 == first_of_head:
            up = _times_slope_of_leak(up @ weights[i].T, rows[-len(up) :])
            up = (pooling @ up.unflatten(0, real.shape[:2])).flatten(start_dim=1)
        else:
            up = _times_slope_of_leak(up @ weights[i].T, x[i + 1][-len(up) :])
    x[-1][-n:] = up
    by_mean = (share * x[-1].float()).sum(dim=0) / CRITIC_OUTPUTS
    critic.outputs.weight.grad = by_mean.expand_as(critic.outputs.weight).contiguous()
    critic.outputs.bias.grad = torch.zeros_like(critic.outputs.bias)  # fake minus real: no effect
    return scores[n : 2 * n].mean() - scores[:n].mean(), penalty


def _linear(layers: nn.Sequential) -> list[nn.Linear]:
    return cast("list[nn.Linear]", [layer for layer in layers if isinstance(layer, nn.Linear)])


def _times_slope_of_leak(g: Tensor, rectified: Tensor) -> Tensor:
    """Multiply ``g`` by 1 where ``rectified`` is positive and by the leak elsewhere."""
    return torch.ops.aten.leaky_relu_backward(g, rectified, LEAK, True)
