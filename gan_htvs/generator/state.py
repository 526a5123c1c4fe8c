"""All of a training that a resumed one needs to be the same training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

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

    from torch import nn

    from gan_htvs.chemistry import ChemicalSystem
    from gan_htvs.generator.networks import Classifier
    from gan_htvs.generator.presets import TrainingParameters

_FORMAT = "gan-htvs training state 3"


@dataclass
class TrainingState:
    """Networks, optimizers, random numbers and history.

    Attributes
    ----------
    networks
        By name, in training mode, all on ``device``: generator, critic and, unless the composition
        is exact, classifier.
    optimizers
        Theirs, by the same names.
    system, parameters, seed
        What all of them were made from.
    rng
        Decides batches, noise and conditions; on the CPU wherever the networks are.
    step, seconds
        Generator steps taken and wall time spent on them, s.
    processor
        Where and in which arithmetic the last of them were taken, in words.
    history
        One entry per logged step, see :func:`gan_htvs.generator.training.train`.
    """

    networks: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Adam]
    system: ChemicalSystem
    parameters: TrainingParameters
    seed: int
    rng: torch.Generator
    step: int
    seconds: float
    processor: str
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
        networks = {**untrained.networks, "critic": critic}
        betas = (parameters.beta1, parameters.beta2)
        return cls(
            {name: network.train().to(device) for name, network in networks.items()},
            {
                name: torch.optim.Adam(network.parameters(), betas=betas, fused=True)
                for name, network in networks.items()
            },
            system=system,
            parameters=parameters,
            seed=seed,
            rng=torch.Generator().manual_seed(seed),
            step=0,
            seconds=0.0,
            processor="",
            history=[],
        )

    @property
    def generator(self) -> nn.Module:
        """Noise and composition -> image."""
        return self.networks["generator"]

    @property
    def critic(self) -> Critic:
        """Image -> score."""
        return cast("Critic", self.networks["critic"])

    @property
    def classifier(self) -> Classifier:
        """Image -> composition; a KeyError where there is none."""
        return cast("Classifier", self.networks["classifier"])

    def set_learning_rates(self) -> None:
        """Decay all learning rates by steps, so that resuming needs no schedule state."""
        p = self.parameters
        factor = p.learning_rate_decay ** (self.step // p.decay_steps)
        rates = {
            "generator": p.generator_learning_rate,
            "critic": p.critic_learning_rate,
            "classifier": p.classifier_learning_rate,
        }
        for name, optimizer in self.optimizers.items():
            optimizer.param_groups[0]["lr"] = rates[name] * factor

    def trained(self) -> TrainedGenerator:
        """Copy what sampling needs.

        Raises
        ------
        UserError
            If the training has diverged.
        """
        self._require_finite()
        trained = TrainedGenerator.build(
            self.system,
            self.parameters,
            seed=self.seed,
            steps=self.step,
            seconds=self.seconds,
            history=self.history,
        )
        for name, network in trained.networks.items():
            network.load_state_dict(self.networks[name].state_dict())
        return trained

    def save(self, path: Path, fingerprint: str) -> None:
        """Write everything atomically, marked with the identity of the training.

        Raises
        ------
        UserError
            If the file cannot be written, or the training has diverged: what was written before
            stays.
        """
        self._require_finite()
        tensors = {"rng": self.rng.get_state()}
        for name, network in self.networks.items():
            tensors |= prefixed(name, network.state_dict())
            for i, moments in self.optimizers[name].state_dict()["state"].items():
                tensors |= prefixed(f"{name}_optimizer.{i}", moments)
        metadata = {
            "format": _FORMAT,
            "fingerprint": fingerprint,
            "step": self.step,
            "seconds": self.seconds,
            "processor": self.processor,
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
        tensors, metadata = unpack(read_bytes(path), str(path), cure="remove it")
        if metadata.get("format") != _FORMAT or metadata.get("fingerprint") != fingerprint:
            raise UserError(
                f"{path}: belongs to another training (version, data, parameters or seed differ); "
                "remove it or choose another folder."
            )
        try:
            for name, network in self.networks.items():
                restore(network, name, tensors)
                moments: dict[int, dict[str, Any]] = {}
                for key, tensor in tensors.items():
                    if key.startswith(f"{name}_optimizer."):
                        _, i, moment = key.split(".")
                        moments.setdefault(int(i), {})[moment] = tensor
                optimizer = self.optimizers[name]
                optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
            self.rng.set_state(tensors["rng"])
            self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])
            self.processor = str(metadata["processor"])
            self.history = [dict(entry) for entry in metadata["history"]]
        except (ArithmeticError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"{path}: is a damaged training checkpoint; remove it.") from error

    def _require_finite(self) -> None:
        """Losses are those before a step; the step itself may break the weights."""
        for name, network in self.networks.items():
            if not all(weight.isfinite().all() for weight in network.state_dict().values()):
                raise UserError(
                    f"training: weights of the {name} are not finite after step {self.step}; "
                    "lower the learning rates in generator.overrides."
                )
