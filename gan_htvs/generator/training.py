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
from gan_htvs.generator.checkpoint import TrainingState
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
    from gan_htvs.generator.checkpoint import TrainedGenerator
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
    start: TrainedGenerator | None = None,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    checkpoint_path: Path | None = None,
    checkpoint_seconds: float = 60.0,
    log_steps: int = 10,
    on_progress: Progress = lambda _entry: None,
    on_resume: Callable[[TrainingState], None] = lambda _state: None,
) -> TrainedGenerator:
    """Train a generator, or resume an interrupted training.

    Parameters
    ----------
    images
        (n, 2 + max_atoms, 3): unique structures. The published presets augment them at random, with
        equal probability for every composition; ``tuned`` uses one description per structure
        (:class:`gan_htvs.generator.frameworks.TrainingFrameworks`).
    counts
        (n, n_elements): atoms of each element in ``images``.
    system, parameters
        Elements and caps, and training parameters.
    max_steps
        Total number of generator steps.
    seed
        Random seed. The result is reproducible on the same machine with the same number of threads.
    max_seconds
        Limit of wall time, s, including the time before an interruption.
    conditions
        (m, n_elements): C_gen, the compositions on which the generator is conditioned, with equal
        probability. Every cell within the caps by default or with ``uniform_conditions``; ``tuned``
        ignores them and uses the compositions of the training set.
    weights
        (n,): weight of each image within its composition or, in ``tuned``, its numbers of sites;
        equal by default.
    start
        Generator with whose weights the training begins, of the same system and parameters; None:
        random weights.
    device, precision
        See :meth:`Processor.choose`.
    checkpoint_path
        File to which the state is written every ``checkpoint_seconds`` and at the end. If the file
        exists, training resumes from it with weights, optimizers, step and random state. The state
        is also written on SIGTERM, SIGUSR1 or SIGINT, after the current step.
    log_steps
        Generator steps between entries of the history: ``step``, ``wasserstein``,
        ``gradient_penalty``, and ``class_real`` and ``class_generated`` or ``coverage``.
    on_progress
        Called with every new entry of the history.
    on_resume
        Called once with the restored state of a resumed training.

    Raises
    ------
    UserError
        If a loss is not finite, if the checkpoint is damaged or belongs to another training, if a
        requested GPU is missing, or if a signal stopped the training and its handler returned.
    ValueError
        If the arrays do not fit ``system``.
    """
    processor = Processor.choose(device, precision)
    state = TrainingState.fresh(system, parameters, seed, processor.device, start)
    trainer = _trainer(state, images, counts, weights, conditions, processor)
    fingerprint = _fingerprint(trainer.data, conditions, state, start)
    if checkpoint_path is not None and checkpoint_path.exists():
        state.load(checkpoint_path, fingerprint)
        if state.steps > max_steps:
            raise UserError(
                f"generator.max_steps is {max_steps}, but {checkpoint_path} is already at step "
                f"{state.steps}; raise it or choose another output folder."
            )
        on_resume(state)
    state.processor = str(processor)

    limit = math.inf if max_seconds is None else max_seconds

    def is_done() -> bool:
        return state.steps >= max_steps or state.seconds >= limit

    # Signals are deferred only if there is a file to write the state to.
    with _deferred_signals(defer=checkpoint_path is not None) as received:
        started = time.monotonic() - state.seconds
        saved = time.monotonic()
        while not received and not is_done():
            losses = trainer.step()
            state.seconds = time.monotonic() - started
            # Checked before a checkpoint is written.
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
            f"training: stopped by {received[-1].name} after step {state.steps}; the state is in "
            f"{checkpoint_path}. Run the same command again to resume."
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
    data = TrainingImages(images, counts, system, weights=weights)
    requested = None if conditions is None else torch.as_tensor(np.asarray(conditions)).long()
    return Trainer(state, data, requested, processor)


@contextmanager
def _deferred_signals(*, defer: bool) -> Iterator[list[signal.Signals]]:
    """Collect stop signals within the block and raise the last one after it.

    Ignored signals stay ignored. Python allows handlers in the main thread only; in other threads,
    and without ``defer``, this does nothing.
    """
    received: list[signal.Signals] = []

    def record(signum: int, _frame: FrameType | None) -> None:
        received.append(signal.Signals(signum))

    handlers = {}
    if defer and threading.current_thread() is threading.main_thread():
        for signum in STOP_SIGNALS:
            if signal.getsignal(signum) not in (signal.SIG_IGN, None):  # None: not set from Python
                handlers[signum] = signal.signal(signum, record)
    try:
        yield received
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        if received:
            signal.raise_signal(received[-1])


class _Trainer(ABC):
    """Base class: train the critic ``critic_steps`` times, then the generator once."""

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
        """Disable gradients of the critic's parameters during the generator step."""
        critic = self.state.critic.requires_grad_(False)
        yield critic
        critic.requires_grad_(True)

    def _put(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.processor.device, non_blocking=True)


class Trainer(_Trainer):
    """Training steps of the paper: generator, critic and classifier."""

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
        """Train the critic, and the classifier on the same real images."""
        # All batches in one context, which converts the weights only once.
        with torch.no_grad(), self.processor.arithmetic():
            batches = range(self.parameters.critic_steps)
            fakes = [self.state.generator(*self.draw_inputs()) for _ in batches]
        for fake in fakes:
            images, counts = self.data.draw(self.parameters.batch_size, self.rng)
            losses = self._critic_step(self._put(images), fake)
            inputs, counts = self._put(self.add_padding_noise(images)), self._put(counts)
            with self.processor.arithmetic():
                loss = classifier_loss(self.classifier, inputs, counts, self.parameters)
            _update(loss, self.state.optimizers["classifier"])
        return losses | {"class_real": loss}

    def _train_generator(self) -> dict[str, Tensor]:
        state, parameters = self.state, self.parameters
        noise, requested = self.draw_inputs()
        with self._frozen_critic() as critic, self.processor.arithmetic():
            fake = state.generator(noise, requested)
            class_generated = classifier_loss(
                self.classifier,
                fake,
                requested,
                parameters,
                weight_atoms=parameters.lambda_2,
                weight_counts=parameters.lambda_1,
            )
            score = critic(fake).float().mean()
        state.optimizers["classifier"].zero_grad()
        _update(class_generated - score, state.optimizers["generator"])
        if parameters.classifier_in_generator_step:
            state.optimizers["classifier"].step()
        return {"class_generated": class_generated}

    def draw_inputs(self) -> tuple[Tensor, Tensor]:
        """Draw noise (n, noise_dim) and requested compositions (n, E)."""
        n, system = self.parameters.batch_size, self.data.system
        noise = torch.randn(n, self.parameters.noise_dim, generator=self.rng)
        if self.conditions is not None:
            chosen = torch.randint(len(self.conditions), (n,), generator=self.rng)
            counts = self.conditions[chosen]
        else:
            caps = system.max_counts
            columns = [torch.randint(1, cap + 1, (n,), generator=self.rng) for cap in caps]
            counts = torch.stack(columns, dim=1)
        return self._put(noise), self._put(counts)

    def add_padding_noise(self, images: Tensor) -> Tensor:
        """Add noise to the padding of real images, which generated images cannot match exactly."""
        mean, std = self.parameters.padding_noise_mean, self.parameters.padding_noise_std
        if not (mean or std):
            return images
        noise = (mean + std * torch.randn(images.shape, generator=self.rng)).abs()
        noise[:, :CELL_ROWS] = 0
        return torch.where(images == 0, noise, images)


class FrameworkTrainer(_Trainer):
    """Training steps of frameworks: critic, and generator with coverage loss."""

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
        _update(loss, self.state.optimizers["generator"])
        return {"coverage": coverage}

    def _draw(self) -> Tensor:
        return self._put(self.data.draw(self.parameters.batch_size, self.rng))

    def _noise(self, dim: int) -> Tensor:
        return self._put(torch.randn(self.parameters.batch_size, dim, generator=self.rng))

    def _generate(self, crystals: Tensor) -> Tensor:
        """Generate an image with the composition of every crystal."""
        noise = self._noise(self.generator.noise_dim)
        return self.generator(noise, self.data.counts[crystals])


def _update(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _fingerprint(
    data: TrainingImages | TrainingFrameworks,
    conditions: NDArray[np.integer] | None,
    state: TrainingState,
    start: TrainedGenerator | None,
) -> str:
    """Hash all inputs that determine a training, except its length."""
    tensors = (data.images, data.counts, data.probabilities)
    arrays = hashlib.sha256(b"".join(tensor.cpu().numpy().tobytes() for tensor in tensors))
    return content_hash(
        arrays.hexdigest(),
        None if conditions is None else np.asarray(conditions).tolist(),
        list(state.system.caps.items()),
        repr(state.parameters),
        state.seed,
        *([] if start is None else [start.content_sha256]),
    )
