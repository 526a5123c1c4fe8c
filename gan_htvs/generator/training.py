"""Training of the crystal GAN: Wasserstein loss with gradient penalty, plus the classifier's.

Kim et al., ACS Cent. Sci. 2020, 6, 1412:

L_WGAN = E[D(fake)] - E[D(real)] + lambda E[(|grad D(x_hat)| - 1)^2], and
L_class = L_atom + lambda_c L_comp, each cross entropy on real plus lambda_i times on generated.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gan_htvs.errors import UserError
from gan_htvs.generator.checkpoint import (
    TrainedGenerator,
    pack,
    prefixed,
    read_bytes,
    restore,
    unpack,
    write_atomically,
)
from gan_htvs.generator.networks import (
    Classifier,
    Critic,
    ElementReading,
    Generator,
    expected_presence,
)
from gan_htvs.identity import content_hash
from gan_htvs.pointcloud import CELL_ROWS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from gan_htvs.chemistry import ChemicalSystem
    from gan_htvs.generator.presets import TrainingParameters

_FORMAT = "gan-htvs training state 1"

Progress = Callable[[dict[str, float]], None]


def train(
    images: NDArray[np.float32],
    counts: NDArray[np.integer],
    system: ChemicalSystem,
    parameters: TrainingParameters,
    *,
    max_steps: int,
    seed: int,
    max_seconds: float | None = None,
    conditions: NDArray[np.integer] | None = None,
    checkpoint_path: Path | None = None,
    checkpoint_seconds: float = 60.0,
    log_steps: int = 10,
    on_progress: Progress | None = None,
) -> TrainedGenerator:
    """Train a generator, or go on with a training that was cut off.

    Parameters
    ----------
    images
        (n, 2 + max_atoms, 3): unique structures; augmentation happens on the fly, every
        composition equally often.
    counts
        (n, n_elements): atoms of each element in ``images``.
    system, parameters
        What to build and how to train it.
    max_steps
        Generator steps in all.
    seed
        Decides everything, on one machine with one number of threads.
    max_seconds
        Wall time in all, s, time before an interruption included.
    conditions
        (m, n_elements): compositions that the generator is asked for while it learns, equally
        often; every cell within the caps if not given, as in the published code.
    checkpoint_path
        Where the state goes every ``checkpoint_seconds`` and at the end. If the file is there
        already, training continues from it with weights, optimizers, step and random state.
    log_steps
        Generator steps between entries of the history: ``step``, ``wasserstein``,
        ``gradient_penalty``, ``class_real``, ``class_generated``.
    on_progress
        Called with every entry of the history.

    Raises
    ------
    UserError
        If a loss is not finite (with the step), or the checkpoint is damaged or belongs to
        another training.
    ValueError
        If the arrays do not belong to ``system``.
    """
    data = TrainingImages(images, counts, system)
    state = _State.fresh(system, parameters, seed)
    fingerprint = _fingerprint(data, conditions, system, parameters, seed)
    if checkpoint_path is not None and checkpoint_path.exists():
        state.load(checkpoint_path, fingerprint)
    asked = None if conditions is None else torch.as_tensor(np.asarray(conditions)).long()

    started = saved = time.monotonic() - state.seconds
    while state.step < max_steps and (max_seconds is None or state.seconds < max_seconds):
        losses = _generator_step(state, data, asked)
        state.seconds = time.monotonic() - started
        # Before any checkpoint, which would otherwise keep the broken weights.
        if not all(math.isfinite(loss) for loss in losses.values()):
            raise UserError(
                f"training: a loss is not finite at step {state.step}; lower the learning rates "
                "in generator.overrides."
            )
        if state.step % log_steps == 0 or state.step == max_steps:
            state.history.append({"step": float(state.step), **losses})
            if on_progress is not None:
                on_progress(state.history[-1])
        if checkpoint_path is not None and time.monotonic() - saved > checkpoint_seconds:
            state.save(checkpoint_path, fingerprint)
            saved = time.monotonic()
    if checkpoint_path is not None:
        state.save(checkpoint_path, fingerprint)
    return TrainedGenerator(
        state.generator.eval(),
        state.classifier.eval(),
        system,
        parameters,
        seed,
        state.step,
        state.seconds,
        state.history,
    )


class TrainingImages:
    """Unique images with on-the-fly augmentation and composition-balanced drawing."""

    def __init__(
        self, images: NDArray[np.float32], counts: NDArray[np.integer], system: ChemicalSystem
    ) -> None:
        images, counts = np.asarray(images, dtype=np.float32), np.asarray(counts)
        if not len(images) or images.shape[1:] != (CELL_ROWS + system.max_atoms, 3):
            raise ValueError(f"images of shape {images.shape} do not belong to {system.chemsys}")
        if counts.shape != (len(images), len(system.elements)):
            raise ValueError(f"counts of shape {counts.shape} for {len(images)} images")
        if (counts < 1).any() or (counts > np.array(system.max_counts)).any():
            raise ValueError(f"counts must lie between 1 and {system.max_counts}")
        self.system = system
        self.images = torch.as_tensor(images)
        self.counts = torch.as_tensor(counts).long()
        _, group, size = np.unique(counts, axis=0, return_inverse=True, return_counts=True)
        self._weights = torch.as_tensor(1.0 / size[group.reshape(-1)])

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw augmented images (n, 2 + R, 3) and counts (n, E), compositions equally often."""
        chosen = torch.multinomial(self._weights, n, replacement=True, generator=generator)
        counts = self.counts[chosen]
        return augment(self.images[chosen], counts, self.system, generator), counts


def augment(
    images: Tensor, counts: Tensor, system: ChemicalSystem, generator: torch.Generator
) -> Tensor:
    """Describe the same crystals differently: origin, order of axes, order of equal atoms.

    ``images`` (n, 2 + R, 3), ``counts`` (n, E). Atoms stay in the first rows of their blocks.
    """
    n = len(images)
    present = expected_presence(counts, system)  # (n, R)
    axes = torch.rand(n, 1, 3, generator=generator).argsort(dim=2)
    images = images.gather(2, axes.expand_as(images))
    cell, rows = images[:, :CELL_ROWS], images[:, CELL_ROWS:]

    # Padding sorts last within its block, blocks stay in order.
    keys = torch.rand(n, system.max_atoms, generator=generator) + (~present).float()
    for e, block in enumerate(system.blocks):
        keys[:, block] += 2 * e
    order = keys.argsort(dim=1)
    rows = rows.gather(1, order[..., None].expand_as(rows))

    shift = torch.rand(n, 1, 3, generator=generator)
    moved = ((15 * rows - 2.5) / 10 + shift) % 1.0
    rows = torch.where(present[..., None], (10 * moved + 2.5) / 15, torch.zeros(()))
    return torch.cat([cell, rows], dim=1)


def _generator_step(
    state: _State, data: TrainingImages, conditions: Tensor | None
) -> dict[str, float]:
    """Train the critic ``critic_steps`` times, then the generator once; return the losses."""
    parameters, system = state.parameters, data.system
    n = parameters.batch_size
    state.set_learning_rates()

    for _ in range(parameters.critic_steps):
        real, counts = data.draw(n, state.rng)
        with torch.no_grad():
            fake = state.generator(*_noise_and_counts(state, system, conditions))
        wasserstein, penalty = _critic_losses(state.critic, real, fake, state.rng)
        state.critic_optimizer.zero_grad()
        (wasserstein + parameters.gradient_penalty * penalty).backward()
        state.critic_optimizer.step()

        class_real = classifier_loss(
            state.classifier(real), counts, system, weight_composition=parameters.lambda_c
        )
        state.classifier_optimizer.zero_grad()
        class_real.backward()
        state.classifier_optimizer.step()

    noise, asked = _noise_and_counts(state, system, conditions)
    fake = state.generator(noise, asked)
    class_generated = classifier_loss(
        state.classifier(fake),
        asked,
        system,
        weight_atoms=parameters.lambda_2,
        weight_composition=parameters.lambda_c * parameters.lambda_1,
    )
    state.critic.requires_grad_(False)
    loss = class_generated - state.critic(fake).mean()
    state.critic.requires_grad_(True)
    state.generator_optimizer.zero_grad()
    state.classifier_optimizer.zero_grad()
    loss.backward()
    state.generator_optimizer.step()
    if parameters.classifier_in_generator_step:
        state.classifier_optimizer.step()
    state.step += 1
    return {
        "wasserstein": -wasserstein.item(),
        "gradient_penalty": penalty.item(),
        "class_real": class_real.item(),
        "class_generated": class_generated.item(),
    }


def _noise_and_counts(
    state: _State, system: ChemicalSystem, conditions: Tensor | None
) -> tuple[Tensor, Tensor]:
    n = state.parameters.batch_size
    noise = torch.randn(n, state.parameters.noise_dim, generator=state.rng)
    if conditions is not None:
        return noise, conditions[torch.randint(len(conditions), (n,), generator=state.rng)]
    each = [torch.randint(1, cap + 1, (n,), generator=state.rng) for cap in system.max_counts]
    return noise, torch.stack(each, dim=1)


def _critic_losses(
    critic: Critic, real: Tensor, fake: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Wasserstein estimate E[D(fake)] - E[D(real)] and gradient penalty, without its weight."""
    n = len(real)
    mix = torch.rand(n, 1, 1, generator=rng)
    between = (mix * real + (1 - mix) * fake).requires_grad_()
    scores = critic(torch.cat([real, fake]))
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty = (slope.flatten(start_dim=1).norm(dim=1) - 1).square().mean()
    return scores[n:].mean() - scores[:n].mean(), penalty


def classifier_loss(
    readings: list[ElementReading],
    counts: Tensor,
    system: ChemicalSystem,
    *,
    weight_atoms: float = 1.0,
    weight_composition: float = 0.3,
) -> Tensor:
    """Cross entropies of the atom and composition branches, summed over elements."""
    present = expected_presence(counts, system).long()
    atoms = sum(
        functional.cross_entropy(reading.atoms.transpose(1, 2), present[:, block])
        for reading, block in zip(readings, system.blocks, strict=True)
    )
    composition = sum(
        functional.cross_entropy(reading.counts, counts[:, e] - 1)
        for e, reading in enumerate(readings)
    )
    return torch.as_tensor(weight_atoms * atoms + weight_composition * composition)


@dataclass
class _State:
    """Everything that a resumed training needs to be the same training."""

    generator: Generator
    critic: Critic
    classifier: Classifier
    generator_optimizer: torch.optim.Adam
    critic_optimizer: torch.optim.Adam
    classifier_optimizer: torch.optim.Adam
    parameters: TrainingParameters
    rng: torch.Generator
    step: int
    seconds: float
    history: list[dict[str, float]]

    @classmethod
    def fresh(cls, system: ChemicalSystem, parameters: TrainingParameters, seed: int) -> _State:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            untrained = TrainedGenerator.build(system, parameters, seed=seed)
            critic = Critic(system, width=parameters.width)
        generator, classifier = untrained.generator.train(), untrained.classifier.train()
        betas = (parameters.beta1, parameters.beta2)
        return cls(
            generator,
            critic,
            classifier,
            torch.optim.Adam(generator.parameters(), betas=betas, fused=True),
            torch.optim.Adam(critic.parameters(), betas=betas, fused=True),
            torch.optim.Adam(classifier.parameters(), betas=betas, fused=True),
            parameters=parameters,
            rng=torch.Generator().manual_seed(seed),
            step=0,
            seconds=0.0,
            history=[],
        )

    def set_learning_rates(self) -> None:
        """Decay all learning rates by steps, so that resuming needs no schedule state."""
        p = self.parameters
        factor = p.learning_rate_decay ** (self.step // p.decay_steps)
        for optimizer, rate in (
            (self.generator_optimizer, p.generator_learning_rate),
            (self.critic_optimizer, p.critic_learning_rate),
            (self.classifier_optimizer, p.classifier_learning_rate),
        ):
            optimizer.param_groups[0]["lr"] = rate * factor

    def _parts(self) -> dict[str, tuple[torch.nn.Module, torch.optim.Adam]]:
        return {
            "generator": (self.generator, self.generator_optimizer),
            "critic": (self.critic, self.critic_optimizer),
            "classifier": (self.classifier, self.classifier_optimizer),
        }

    def save(self, path: Path, fingerprint: str) -> None:
        tensors = {"rng": self.rng.get_state()}
        for name, (network, optimizer) in self._parts().items():
            tensors |= prefixed(name, network.state_dict())
            for i, moments in optimizer.state_dict()["state"].items():
                tensors |= prefixed(f"{name}_optimizer.{i}", moments)
        metadata = {
            "format": _FORMAT,
            "fingerprint": fingerprint,
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
        }
        write_atomically(path, pack(tensors, metadata))

    def load(self, path: Path, fingerprint: str) -> None:
        tensors, metadata = unpack(read_bytes(path), str(path))
        if metadata.get("format") != _FORMAT or metadata.get("fingerprint") != fingerprint:
            raise UserError(
                f"{path}: belongs to another training (data, parameters or seed differ); remove "
                "it or name another file."
            )
        try:
            for name, (network, optimizer) in self._parts().items():
                restore(network, name, tensors)
                moments: dict[int, dict[str, Any]] = {}
                for key, tensor in tensors.items():
                    if key.startswith(f"{name}_optimizer."):
                        _, i, moment = key.split(".")
                        moments.setdefault(int(i), {})[moment] = tensor
                optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
            self.rng.set_state(tensors["rng"])
            self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])
            self.history = metadata["history"]
        except (KeyError, ValueError, RuntimeError) as error:
            raise UserError(f"{path}: is a damaged training checkpoint; remove it.") from error


def _fingerprint(
    data: TrainingImages,
    conditions: NDArray[np.integer] | None,
    system: ChemicalSystem,
    parameters: TrainingParameters,
    seed: int,
) -> str:
    """Hash what decides the course of a training, its length excepted."""
    arrays = hashlib.sha256(data.images.numpy().tobytes() + data.counts.numpy().tobytes())
    return content_hash(
        arrays.hexdigest(),
        None if conditions is None else np.asarray(conditions).tolist(),
        list(system.caps.items()),
        repr(parameters),
        seed,
    )
