"""The same training with the convolutional layers of the paper, the baseline of ``training.py``.

Convolutions on (n, channels, rows, columns) images, transposed ones in the generator,
``BatchNorm2d``, one backward pass for each term of the critic's loss, autograd's double
differentiation for the gradient penalty, float32, PyTorch's defaults otherwise. Preset ``paper``.
In the shapes, n is the batch, R the atom rows, E the elements, N_e the cap of element e.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_htvs.generator.networks import condition_vector, expected_presence
from gan_htvs.structures.point_cloud import CELL_ROWS

if TYPE_CHECKING:
    from gan_htvs.core.chemical_system import ChemicalSystem
    from gan_htvs.generator.augmentation import TrainingImages
    from gan_htvs.generator.checkpoint import TrainingState
    from gan_htvs.generator.presets import TrainingParameters


class ConvGenerator(nn.Module):
    """Noise and composition -> image, by transposed convolutions."""

    def __init__(self, system: ChemicalSystem, parameters: TrainingParameters) -> None:
        super().__init__()
        self.system = system
        rows, eps = system.max_atoms, parameters.batch_norm_eps
        stem, narrow, wide = (_scaled(w, parameters) for w in (128, 256, 512))
        self.stem = nn.Linear(parameters.noise_dim + 1 + rows, stem * rows)
        self.maps = nn.Sequential(
            nn.ConvTranspose2d(stem, narrow, (1, 3)),
            nn.BatchNorm2d(narrow, eps=eps),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(narrow, wide, (1, 1)),
            nn.BatchNorm2d(wide, eps=eps),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(wide, narrow, (1, 1)),
            nn.BatchNorm2d(narrow, eps=eps),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(narrow, 1, (1, 1)),
        )
        self.cell = nn.Sequential(
            nn.Linear(3 * rows, 30), nn.BatchNorm1d(30), nn.ReLU(inplace=True), nn.Linear(30, 6)
        )

    def forward(self, noise: Tensor, counts: Tensor) -> Tensor:
        """-> images (n, 1, 2 + R, 3)."""
        n, rows = len(noise), self.system.max_atoms
        h = functional.relu(
            self.stem(torch.cat([noise, condition_vector(counts, self.system.max_counts)], dim=1))
        )
        h = self.maps(h.view(n, -1, rows, 1))  # (n, 1, R, 3)
        cell = self.cell(h.flatten(start_dim=1)).view(n, 1, CELL_ROWS, 3)
        return torch.sigmoid(torch.cat([cell, h], dim=2))


class ConvCritic(nn.Module):
    """Image -> score, by convolutions and average pooling."""

    def __init__(self, system: ChemicalSystem, parameters: TrainingParameters) -> None:
        super().__init__()
        self.system = system
        wide, narrow = _scaled(512, parameters), _scaled(256, parameters)
        first, second = _scaled(1000, parameters), _scaled(200, parameters)
        self.maps = nn.Sequential(
            nn.Conv2d(1, wide, (1, 3)),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(wide, wide, (1, 1)),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(wide, narrow, (1, 1)),
            nn.LeakyReLU(0.2, inplace=True),
        )
        self.pools = nn.ModuleList(nn.AvgPool2d((cap, 1)) for cap in system.max_counts)
        self.head = nn.Sequential(
            nn.Linear(narrow * (CELL_ROWS + len(system.elements)), first),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(first, second),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(second, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        """``images`` (n, 1, 2 + R, 3) -> scores (n,)."""
        h = self.maps(images)  # (n, 256, 2 + R, 1)
        cell, atoms = h[:, :, :CELL_ROWS], h[:, :, CELL_ROWS:]
        pooled = [
            pool(atoms[:, :, block])
            for pool, block in zip(self.pools, self.system.blocks, strict=True)
        ]
        return self.head(torch.cat([cell, *pooled], dim=2).flatten(start_dim=1)).mean(dim=1)


class ConvClassifier(nn.Module):
    """Image -> logits of atom or padding (n, 2, N_e, 1) and of counts (n, N_e), per element."""

    def __init__(self, system: ChemicalSystem, parameters: TrainingParameters) -> None:
        super().__init__()
        self.system = system
        eps = parameters.batch_norm_eps
        wide, narrow = _scaled(512, parameters), _scaled(256, parameters)
        first, second = _scaled(300, parameters), _scaled(100, parameters)
        self.atoms = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(1, wide, (1, 3)),
                nn.BatchNorm2d(wide, eps=eps),
                nn.LeakyReLU(0.2, inplace=True),
                nn.Conv2d(wide, narrow, (1, 1)),
                nn.BatchNorm2d(narrow, eps=eps),
                nn.LeakyReLU(0.2, inplace=True),
                nn.Conv2d(narrow, narrow, (1, 1)),
                nn.BatchNorm2d(narrow, eps=eps),
                nn.LeakyReLU(0.2, inplace=True),
                nn.Conv2d(narrow, 2, (1, 1)),
                nn.BatchNorm2d(2, eps=eps),
            )
            for _ in system.elements
        )
        self.counts = nn.ModuleList(
            nn.Sequential(
                nn.Linear(2 * cap, first),
                nn.BatchNorm1d(first, eps=eps),
                nn.LeakyReLU(0.2, inplace=True),
                nn.Linear(first, second),
                nn.BatchNorm1d(second, eps=eps),
                nn.LeakyReLU(0.2, inplace=True),
                nn.Linear(second, cap),
            )
            for cap in system.max_counts
        )

    def forward(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """``images`` (n, 1, 2 + R, 3)."""
        rows = images[:, :, CELL_ROWS:]
        atoms = [
            network(rows[:, :, block])
            for network, block in zip(self.atoms, self.system.blocks, strict=True)
        ]
        counts = [
            network(logits.flatten(start_dim=1))
            for network, logits in zip(self.counts, atoms, strict=True)
        ]
        return list(zip(atoms, counts, strict=True))


class ConvTraining:
    """The training loop term by term; ``rng`` draws everything except the weights."""

    def __init__(
        self,
        data: TrainingImages,
        parameters: TrainingParameters,
        conditions: Tensor,
        rng: torch.Generator,
    ) -> None:
        system = data.system
        self.data, self.parameters, self.conditions, self.rng = data, parameters, conditions, rng
        self.generator = ConvGenerator(system, parameters)
        self.critic = ConvCritic(system, parameters)
        self.classifier = ConvClassifier(system, parameters)
        betas = (parameters.beta1, parameters.beta2)
        self.generator_optimizer, self.critic_optimizer, self.classifier_optimizer = (
            torch.optim.Adam(network.parameters(), lr=rate, betas=betas)
            for network, rate in (
                (self.generator, parameters.generator_learning_rate),
                (self.critic, parameters.critic_learning_rate),
                (self.classifier, parameters.classifier_learning_rate),
            )
        )

    def step(self) -> dict[str, float]:
        """Train the critic ``critic_steps`` times, then the generator once; return the losses."""
        drawn = [self._noise_and_counts() for _ in range(self.parameters.critic_steps)]
        for noise, requested in drawn:
            real, counts = self.data.draw(self.parameters.batch_size, self.rng)
            real = real[:, None]  # (n, 1, 2 + R, 3)
            mix = torch.rand(len(real), 1, 1, 1, generator=self.rng)
            fake = self.generator(noise, requested).detach()
            self.critic_optimizer.zero_grad()
            score_real = self.critic(real).mean()
            (-score_real).backward()
            score_fake = self.critic(fake).mean()
            score_fake.backward()
            penalty = gradient_penalty(self.critic, real, fake, mix)
            (self.parameters.gradient_penalty * penalty).backward()
            self.critic_optimizer.step()

            self.classifier_optimizer.zero_grad()
            class_real = self._classifier_loss(real, counts, 1.0, 1.0)
            class_real.backward()
            self.classifier_optimizer.step()

        noise, requested = self._noise_and_counts()
        self.generator_optimizer.zero_grad()
        self.classifier_optimizer.zero_grad()
        fake = self.generator(noise, requested)
        class_generated = self._classifier_loss(
            fake, requested, self.parameters.lambda_2, self.parameters.lambda_1
        )
        (class_generated - self.critic(fake).mean()).backward()
        self.generator_optimizer.step()
        self.classifier_optimizer.step()
        return {
            "wasserstein": (score_real - score_fake).item(),
            "gradient_penalty": penalty.item(),
            "class_real": class_real.item(),
            "class_generated": class_generated.item(),
        }

    def _classifier_loss(
        self, images: Tensor, counts: Tensor, weight_atoms: float, weight_counts: float
    ) -> Tensor:
        system = self.data.system
        present = expected_presence(counts, system.max_counts).long()  # (n, R)
        loss = torch.zeros(())
        readings = self.classifier(images)
        for e, ((atoms, read), block) in enumerate(zip(readings, system.blocks, strict=True)):
            loss = loss + weight_atoms * functional.cross_entropy(
                atoms.squeeze(3), present[:, block]
            )
            loss = loss + weight_counts * self.parameters.lambda_c * functional.cross_entropy(
                read, counts[:, e] - 1
            )
        return loss

    def _noise_and_counts(self) -> tuple[Tensor, Tensor]:
        n = self.parameters.batch_size
        noise = torch.randn(n, self.parameters.noise_dim, generator=self.rng)
        chosen = torch.randint(len(self.conditions), (n,), generator=self.rng)
        return noise, self.conditions[chosen]


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """Return E[(|grad D(x_hat)| - 1)^2] by double differentiation."""
    between = (mix * real + (1 - mix) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slope.flatten(start_dim=1).norm(dim=1) - 1).square().mean()


@torch.no_grad()
def copy_weights(source: TrainingState, baseline: ConvTraining) -> None:
    """Copy the weights of the package's networks into the baseline.

    Layers before a batch normalization have a bias in the baseline only.
    """
    generator, critic, classifier = source.generator, source.critic, source.classifier
    target_generator = baseline.generator
    target_generator.stem.load_state_dict(_columns_first(generator.stem, baseline))
    transposed, _, _, map2, _, _, map3, _, _, coordinates = target_generator.maps
    columns = generator.columns.weight.view(3, -1, transposed.in_channels)  # (3, 256, 128)
    _set(transposed, columns.permute(2, 1, 0)[:, :, None], None)
    for convolution, layer in (
        (map2, generator.map2),
        (map3, generator.map3),
        (coordinates, generator.coordinates),
    ):
        _set(convolution, layer.weight.T[..., None, None], layer.bias)
    for i, norm in ((1, generator.norm1), (4, generator.norm2), (7, generator.norm3)):
        target_generator.maps[i].load_state_dict(norm.state_dict())
    _copy_sequence(generator.cell, target_generator.cell)

    for convolution, layer in zip(baseline.critic.maps[::2], critic.rows[::2], strict=True):
        _set(convolution, layer.weight.view_as(convolution.weight), layer.bias)
    pools = len(critic.pooling)
    for target, layer in zip(
        baseline.critic.head[::2], [*critic.head[::2], critic.outputs], strict=True
    ):
        _set(target, layer.weight, layer.bias)
    first = critic.head[0].weight  # (pool, channel) here, (channel, pool) in the baseline
    _set(
        baseline.critic.head[0],
        first.unflatten(1, (pools, -1)).transpose(1, 2).flatten(start_dim=1),
        critic.head[0].bias,
    )

    for e, network in enumerate(classifier.elements):
        _copy_sequence(network.row, baseline.classifier.atoms[e])
        _copy_sequence(network.composition, baseline.classifier.counts[e])
        first = network.composition[0].weight  # (row, class) here, (class, row) in the baseline
        _set(
            baseline.classifier.counts[e][0],
            first.unflatten(1, (-1, 2)).transpose(1, 2).flatten(start_dim=1),
            None,
        )


def _columns_first(stem: nn.Linear, baseline: ConvTraining) -> dict[str, Tensor]:
    """Reorder the stem's outputs from (row, channel) to the convolutions' (channel, row)."""
    rows = baseline.data.system.max_atoms
    weight = stem.weight.unflatten(0, (rows, -1)).transpose(0, 1).flatten(end_dim=1)
    return {"weight": weight, "bias": stem.bias.view(rows, -1).T.flatten()}


def _copy_sequence(sources: nn.Sequential, targets: nn.Sequential) -> None:
    for source, target in zip(sources, targets, strict=True):
        if isinstance(source, nn.Linear):
            _set(target, source.weight.view_as(target.weight), source.bias)
        else:
            target.load_state_dict(source.state_dict())


def _set(target: nn.Module, weight: Tensor, bias: Tensor | None) -> None:
    target.weight.copy_(weight)
    target.bias.zero_() if bias is None else target.bias.copy_(bias)


def _scaled(units: int, parameters: TrainingParameters) -> int:
    return max(1, round(units * parameters.width))
