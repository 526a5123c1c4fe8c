"""Training of the crystal GAN of Kim et al., ACS Cent. Sci. 2020, 6, 1412."""

from __future__ import annotations

import hashlib
import math
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from gan_htvs.core.errors import UserError
from gan_htvs.core.hashing import content_hash
from gan_htvs.generator.augmentation import TrainingImages
from gan_htvs.generator.checkpoint import TrainedGenerator, TrainingState
from gan_htvs.generator.frameworks import TrainingFrameworks, coverage_loss
from gan_htvs.generator.losses import classifier_loss, set_critic_gradient
from gan_htvs.generator.processor import Processor
from gan_htvs.structures.point_cloud import CELL_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

    from numpy.typing import ArrayLike, NDArray

    from gan_htvs.core.chemical_system import ChemicalSystem
    from gan_htvs.generator.frameworks import FrameworkGenerator
    from gan_htvs.generator.networks import Classifier, Critic
    from gan_htvs.generator.presets import TrainingParameters
    from gan_htvs.generator.processor import DeviceName, PrecisionName

Progress = Callable[[dict[str, float]], None]

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""Signals of batch systems (SLURM's ``--signal=USR1@120`` among them), FireWorks and Ctrl-C."""


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
    weights: ArrayLike | None = None,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    checkpoint_path: Path | None = None,
    checkpoint_seconds: float = 60.0,
    log_steps: int = 10,
    on_progress: Progress = lambda _entry: None,
    on_resume: Callable[[TrainingState], None] = lambda _state: None,
) -> TrainedGenerator:
    """Train a generator, or go on with a training that was cut off.

    Parameters
    ----------
    images
        (n, 2 + max_atoms, 3): unique structures. The published presets describe them anew
        whenever they are drawn, every composition equally often; ``tuned`` describes each once
        (:class:`gan_htvs.generator.frameworks.TrainingFrameworks`).
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
        (m, n_elements): C_gen, the compositions that the generator is asked for while it learns,
        equally often. Every cell within the caps if not given, or if the parameters say so;
        ``tuned`` asks for those of the crystals and leaves these alone.
    weights
        (n,): how often each image is drawn within its composition, or its numbers of sites in
        ``tuned``; equally if not given.
    device, precision
        Where, and in which arithmetic; see :meth:`Processor.choose`.
    checkpoint_path
        Where the state goes every ``checkpoint_seconds`` and at the end. If the file is there
        already, training continues from it with weights, optimizers, step and random state.
        A SIGTERM, SIGUSR1 or SIGINT then waits until the step is done and the state is written.
    log_steps
        Generator steps between entries of the history: ``step``, ``wasserstein``,
        ``gradient_penalty``, and ``class_real`` and ``class_generated`` or ``coverage``.
    on_progress
        Called with every entry of the history that is made here.
    on_resume
        Called once, with what the training goes on from, if it goes on.

    Raises
    ------
    UserError
        If a loss is not finite (with the step), if the checkpoint is damaged or belongs to
        another training, if a GPU is asked for and absent, or if a signal stopped the training
        and its handler came back.
    ValueError
        If the arrays do not belong to ``system``.
    """
    processor = Processor.choose(device, precision)
    state = TrainingState.fresh(system, parameters, seed, processor.device)
    trainer = _trainer(state, images, counts, weights, conditions, processor)
    fingerprint = _fingerprint(trainer.data, conditions, state)
    if checkpoint_path is not None and checkpoint_path.exists():
        state.load(checkpoint_path, fingerprint)
        if state.steps > max_steps:
            raise UserError(
                f"generator.max_steps is {max_steps}, but {checkpoint_path} has taken "
                f"{state.steps} steps already; raise it or choose another output folder."
            )
        on_resume(state)
    state.processor = str(processor)

    limit = math.inf if max_seconds is None else max_seconds

    def is_done() -> bool:
        return state.steps >= max_steps or state.seconds >= limit

    # Held back only where there is a file to write the state to.
    with _held_signals(hold=checkpoint_path is not None) as received:
        started = time.monotonic() - state.seconds
        saved = time.monotonic()
        while not received and not is_done():
            losses = trainer.step()
            state.seconds = time.monotonic() - started
            # Before any checkpoint, which would otherwise keep the broken weights.
            if not all(math.isfinite(loss) for loss in losses.values()):
                raise UserError(
                    f"training: a loss is not finite at step {state.steps}; lower the learning "
                    "rates in generator.overrides."
                )
            if state.steps % log_steps == 0 or is_done():
                state.history.append({"step": float(state.steps), **losses})
                on_progress(state.history[-1])
            if checkpoint_path is not None and time.monotonic() - saved > checkpoint_seconds:
                state.save(checkpoint_path, fingerprint)
                saved = time.monotonic()
        if checkpoint_path is not None:
            state.save(checkpoint_path, fingerprint)
    if received:
        raise UserError(
            f"training: stopped by {received[-1].name} after step {state.steps}; its state is "
            f"in {checkpoint_path}, from which the same command goes on."
        )
    return state.trained()


def _trainer(
    state: TrainingState,
    images: NDArray[np.float32],
    counts: NDArray[np.integer],
    weights: ArrayLike | None,
    conditions: NDArray[np.integer] | None,
    processor: Processor,
) -> Trainer | FrameworkTrainer:
    if processor.compiles:
        for network in state.networks.values():
            network.compile()
    system, device = state.system, processor.device
    if state.parameters.draws_frameworks:
        frameworks = TrainingFrameworks(images, counts, system, weights=weights, device=device)
        return FrameworkTrainer(state, frameworks, processor)
    asked = None if conditions is None else torch.as_tensor(np.asarray(conditions)).long()
    return Trainer(state, TrainingImages(images, counts, system, weights=weights), asked, processor)


@contextmanager
def _held_signals(*, hold: bool) -> Iterator[list[signal.Signals]]:
    """Collect stop signals within the block; after it, let the last one do what it would have done.

    A signal that is ignored stays so. Python allows handlers in the main thread only: in any other,
    and without ``hold``, this does nothing.
    """
    received: list[signal.Signals] = []

    def note(signum: int, _frame: FrameType | None) -> None:
        received.append(signal.Signals(signum))

    handlers = {}
    if hold and threading.current_thread() is threading.main_thread():
        for signum in STOP_SIGNALS:
            if signal.getsignal(signum) not in (signal.SIG_IGN, None):  # None: not set from Python
                handlers[signum] = signal.signal(signum, note)
    try:
        yield received
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        if received:
            signal.raise_signal(received[-1])


class _Trainer(ABC):
    """Takes single steps of a training: the critic ``critic_steps`` times, then the generator."""

    def __init__(self, state: TrainingState, processor: Processor) -> None:
        self.state, self.processor = state, processor
        self.parameters, self.rng = state.parameters, state.rng

    def step(self) -> dict[str, float]:
        """Train the critic ``critic_steps`` times, then the generator once; return the losses."""
        self.state.set_learning_rates()
        losses = self._train_critic() | self._train_generator()
        self.state.steps += 1
        return {name: loss.item() for name, loss in losses.items()}

    @abstractmethod
    def _train_critic(self) -> dict[str, Tensor]: ...

    @abstractmethod
    def _train_generator(self) -> dict[str, Tensor]: ...

    def _critic_step(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Train the critic once."""
        mix = self._put(torch.rand(len(real), 1, 1, generator=self.rng))
        wasserstein, penalty = set_critic_gradient(
            self.state.critic, real, fake, mix, self.parameters, self.processor.precision
        )
        self.state.optimizers["critic"].step()
        return {"wasserstein": -wasserstein, "gradient_penalty": penalty}

    @contextmanager
    def _frozen_critic(self) -> Iterator[Critic]:
        """Compute no gradients of the critic, which learns nothing from the generator's loss."""
        critic = self.state.critic.requires_grad_(False)
        yield critic
        critic.requires_grad_(True)

    def _put(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.processor.device, non_blocking=True)


class Trainer(_Trainer):
    """Takes single steps of a training as the paper describes it."""

    def __init__(
        self,
        state: TrainingState,
        data: TrainingImages,
        conditions: Tensor | None,
        processor: Processor,
    ) -> None:
        super().__init__(state, processor)
        self.data = data
        self.classifier = cast("Classifier", state.classifier)
        self.conditions = None if self.parameters.uniform_conditions else conditions

    def _train_critic(self) -> dict[str, Tensor]:
        """Train the critic, and the classifier on real images beside it."""
        # All at once, in a context that converts the weights to its precision once.
        with torch.no_grad(), self.processor.arithmetic():
            batches = range(self.parameters.critic_steps)
            fakes = [self.state.generator(*self._noise_and_counts()) for _ in batches]
        for fake in fakes:
            images, counts = self.data.draw(self.parameters.batch_size, self.rng)
            losses = self._critic_step(self._put(images), fake)
            seen, counts = self._put(self._with_padding_noise(images)), self._put(counts)
            with self.processor.arithmetic():
                loss = classifier_loss(self.classifier, seen, counts, self.parameters)
            _descend(loss, self.state.optimizers["classifier"])
        return losses | {"class_real": loss}

    def _train_generator(self) -> dict[str, Tensor]:
        state, parameters = self.state, self.parameters
        noise, asked = self._noise_and_counts()
        with self._frozen_critic() as critic, self.processor.arithmetic():
            fake = state.generator(noise, asked)
            class_generated = classifier_loss(
                self.classifier,
                fake,
                asked,
                parameters,
                weight_atoms=parameters.lambda_2,
                weight_counts=parameters.lambda_1,
            )
            score = critic(fake).float().mean()
        state.optimizers["classifier"].zero_grad()
        _descend(class_generated - score, state.optimizers["generator"])
        if parameters.classifier_in_generator_step:
            state.optimizers["classifier"].step()
        return {"class_generated": class_generated}

    def _noise_and_counts(self) -> tuple[Tensor, Tensor]:
        """Draw what the generator starts from: (n, noise_dim), (n, E)."""
        n, system = self.parameters.batch_size, self.data.system
        noise = torch.randn(n, self.parameters.noise_dim, generator=self.rng)
        if self.conditions is not None:
            chosen = torch.randint(len(self.conditions), (n,), generator=self.rng)
            counts = self.conditions[chosen]
        else:
            caps = system.max_counts
            each = [torch.randint(1, cap + 1, (n,), generator=self.rng) for cap in caps]
            counts = torch.stack(each, dim=1)
        return self._put(noise), self._put(counts)

    def _with_padding_noise(self, images: Tensor) -> Tensor:
        """Blur the padding of real images, which nothing generated could match exactly."""
        mean, std = self.parameters.padding_noise_mean, self.parameters.padding_noise_std
        if not (mean or std):
            return images
        noise = (mean + std * torch.randn(images.shape, generator=self.rng)).abs()
        noise[:, :CELL_ROWS] = 0
        return torch.where(images == 0, noise, images)


class FrameworkTrainer(_Trainer):
    """Takes single steps of a training of frameworks: critic against coverage and generator."""

    def __init__(
        self, state: TrainingState, data: TrainingFrameworks, processor: Processor
    ) -> None:
        super().__init__(state, processor)
        self.data = data
        self.generator = cast("FrameworkGenerator", state.generator)

    def _train_critic(self) -> dict[str, Tensor]:
        for _ in range(self.parameters.critic_steps):
            crystals = self._draw()
            real = self.data.decorated(crystals, self._noise(self.data.system.max_atoms))
            with torch.no_grad():
                fake = self._generate(crystals)
            losses = self._critic_step(real, fake)
        return losses

    def _train_generator(self) -> dict[str, Tensor]:
        parameters, crystals = self.parameters, self._draw()
        shape = (parameters.coverage_tries, parameters.batch_size, parameters.noise_dim)
        latents = self._put(torch.randn(shape, generator=self.rng))
        coverage = coverage_loss(self.generator, self.data, crystals, latents)
        with self._frozen_critic() as critic:
            score = critic(self._generate(crystals)).mean()
        loss = parameters.lambda_coverage * coverage - score
        _descend(loss, self.state.optimizers["generator"])
        return {"coverage": coverage}

    def _draw(self) -> Tensor:
        return self._put(self.data.draw(self.parameters.batch_size, self.rng))

    def _noise(self, dim: int) -> Tensor:
        return self._put(torch.randn(self.parameters.batch_size, dim, generator=self.rng))

    def _generate(self, crystals: Tensor) -> Tensor:
        """Generate an image of the composition of every crystal."""
        noise = self._noise(self.generator.noise_dim)
        return self.generator(noise, self.data.counts[crystals])


def _descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _fingerprint(
    data: TrainingImages | TrainingFrameworks,
    conditions: NDArray[np.integer] | None,
    state: TrainingState,
) -> str:
    """Hash what decides the course of a training, its length excepted."""
    tensors = (data.images, data.counts, data.probabilities)
    arrays = hashlib.sha256(b"".join(tensor.cpu().numpy().tobytes() for tensor in tensors))
    return content_hash(
        arrays.hexdigest(),
        None if conditions is None else np.asarray(conditions).tolist(),
        list(state.system.caps.items()),
        repr(state.parameters),
        state.seed,
    )
