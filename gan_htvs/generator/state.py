"""All of a training that a resumed one needs to be the same training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from gan_htvs.errors import UserError
from gan_htvs.files import write_atomically
from gan_htvs.generator.checkpoint import (
    TrainedGenerator,
    pack,
    prefixed,
    read_bytes,
    restore,
    unpack,
)
from gan_htvs.generator.networks import Critic

if TYPE_CHECKING:
    from pathlib import Path

    from gan_htvs.chemistry import ChemicalSystem
    from gan_htvs.generator.networks import Classifier, Generator
    from gan_htvs.generator.presets import TrainingParameters

_FORMAT = "gan-htvs training state 2"


@dataclass
class TrainingState:
    """Networks, optimizers, random numbers and history.

    Attributes
    ----------
    generator, critic, classifier
        Networks in training mode, all on ``device``.
    generator_optimizer, critic_optimizer, classifier_optimizer
        Their optimizers.
    parameters
        What all of them were made from.
    rng
        Decides batches, noise and conditions; on the CPU wherever the networks are.
    step, seconds
        Generator steps taken and wall time spent on them, s.
    history
        One entry per logged step, see :func:`gan_htvs.generator.training.train`.
    """

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
    def fresh(
        cls,
        system: ChemicalSystem,
        parameters: TrainingParameters,
        seed: int,
        device: torch.device | None = None,
    ) -> TrainingState:
        """Initialise the networks; the same seed gives the same weights on every device."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            untrained = TrainedGenerator.build(system, parameters, seed=seed)
            critic = Critic(system, width=parameters.width)
        generator = untrained.generator.train().to(device)
        classifier = untrained.classifier.train().to(device)
        critic = critic.to(device)
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
        """Write everything atomically, marked with the identity of the training."""
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
        """Take over what :meth:`save` wrote.

        Raises
        ------
        UserError
            If the file is damaged or belongs to another training.
        """
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
