"""Save and load trained generators and training states as safetensors files."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from gan_htvs.core.chemical_system import ChemicalSystem, format_caps
from gan_htvs.core.errors import UserError
from gan_htvs.core.files import write_atomically
from gan_htvs.generator.frameworks import FrameworkGenerator
from gan_htvs.generator.networks import Classifier, Critic, Generator
from gan_htvs.generator.presets import TrainingParameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_FORMAT = "gan-htvs generator 1"
_STATE_FORMAT = "gan-htvs training state 3"
_METADATA_KEY = "gan_htvs"
_DIGEST_KEY = "digest"
_UNSIGNED = "fd00c8269b6cc87770dd00d41b21064b50f05dd7a7e6a6aaf3d78c9b8f55e5ce"
"""sha256 of the generator in the package, which was written without a digest."""
_HEADER_LENGTH_BYTES = 8
_DTYPES = {torch.float32, torch.float16, torch.int64}


def untrained_networks(system: ChemicalSystem, parameters: TrainingParameters) -> nn.ModuleDict:
    """Build a generator and, unless its compositions are exact, a classifier.

    The keys of its state dictionary, such as ``generator.stem.weight``, are those of the files.
    """
    if parameters.draws_frameworks:
        return nn.ModuleDict({"generator": FrameworkGenerator(system, parameters)})
    generator = Generator(system, parameters)
    return nn.ModuleDict({"generator": generator, "classifier": Classifier(system, parameters)})


@dataclass
class Training:
    """Networks and the progress of their training.

    Attributes
    ----------
    networks
        By name: generator and, unless its compositions are exact, classifier.
    system
        Elements and caps.
    parameters
        Training parameters.
    seed, steps, seconds
        Random seed, number of generator steps, and their wall time, s.
    history
        One entry per logged step, see :func:`gan_htvs.generator.training.train`.
    """

    networks: nn.ModuleDict
    system: ChemicalSystem
    parameters: TrainingParameters
    seed: int
    steps: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def generator(self) -> Generator | FrameworkGenerator:
        """Noise and composition -> image."""
        return cast("Generator | FrameworkGenerator", self.networks["generator"])

    @property
    def classifier(self) -> Classifier | None:
        """Image -> composition; None if compositions are exact."""
        return cast("Classifier | None", dict(self.networks.items()).get("classifier"))


@dataclass
class TrainedGenerator(Training):
    """Trained networks for sampling, in evaluation mode.

    Attributes
    ----------
    half
        Whether the file stores weights as float16; see :meth:`halved`.
    dataset
        Content hash of the training set, :attr:`gan_htvs.dataset.training_set.Dataset.hash`, if
        known.
    file_sha256
        Hash of the file that was read, if any.
    """

    half: bool = False
    dataset: str | None = None
    file_sha256: str | None = None

    @classmethod
    def build(
        cls, system: ChemicalSystem, parameters: TrainingParameters, *, seed: int
    ) -> TrainedGenerator:
        """Build untrained networks for ``system`` and ``parameters``."""
        return cls(untrained_networks(system, parameters).eval(), system, parameters, seed)

    def halved(self) -> TrainedGenerator:
        """Return a copy with all weights rounded to float16, which halves the file.

        Raises
        ------
        UserError
            If a weight is too large for float16.
        """
        rounded = deepcopy(self.networks).half().float()
        if broken := _not_finite(rounded.state_dict()):
            raise UserError(f"training: {broken} is too large for float16; remove --half.")
        return dataclasses.replace(self, networks=rounded, half=True, file_sha256=None)

    @property
    def sha256(self) -> str:
        """Hash of the file that was read, otherwise of :meth:`to_bytes`."""
        return self.file_sha256 or hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def content_sha256(self) -> str:
        """Hash of networks, system and parameters, which determine the samples.

        Unlike :attr:`sha256`, it does not depend on the wall time of the training and is the same
        for an interrupted and resumed one.
        """
        return hashlib.sha256(self._serialized({})).hexdigest()

    def to_bytes(self) -> bytes:
        """Serialize as a safetensors file with JSON metadata in its header."""
        names = ("seed", "steps", "seconds", "history", "dataset")
        return self._serialized({name: getattr(self, name) for name in names})

    def _serialized(self, metadata: Mapping[str, Any]) -> bytes:
        content = {
            "format": _FORMAT,
            # As pairs: keys of JSON objects are sorted, but the order of the row blocks matters.
            "caps": list(self.system.caps.items()),
            "parameters": dataclasses.asdict(self.parameters),
        }
        networks = deepcopy(self.networks).half() if self.half else self.networks
        return serialize(networks.state_dict(), {**content, **metadata})

    def save_in(self, folder: Path) -> Path:
        """Write ``generator-<first 12 digits of the sha256>.safetensors`` and return its path.

        Raises
        ------
        UserError
            If the file cannot be written.
        """
        data = self.to_bytes()
        path = folder / f"generator-{hashlib.sha256(data).hexdigest()[:12]}.safetensors"
        write_atomically(path, data)
        return path


def load(
    source: str | Path | bytes,
    *,
    expected_sha256: str | None = None,
    system: ChemicalSystem | None = None,
) -> TrainedGenerator:
    """Read a trained generator.

    Parameters
    ----------
    source
        Path of a checkpoint, or its bytes.
    expected_sha256
        Raise an error for any other content; by default, the digits in a file name
        ``generator-<12 digits>.safetensors``.
    system
        Raise an error for another chemical system or other caps.

    Raises
    ------
    UserError
        If the file is missing, damaged, modified, not a generator, or of another chemical system.
    """
    name = "generator checkpoint" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else read_bytes(Path(source))
    sha256 = hashlib.sha256(data).hexdigest()
    if match := re.search(r"generator-([0-9a-f]{12})\.safetensors$", name):
        expected_sha256 = expected_sha256 or match[1]
    if expected_sha256 is not None and not sha256.startswith(expected_sha256):
        raise UserError(
            f"{name}: the sha256 is {sha256[:12]}..., not {expected_sha256[:12]}...; the file was "
            "changed or truncated. Copy it again or train a new generator."
        )
    tensors, metadata = deserialize(data, name)
    if metadata.get("format") != _FORMAT:
        raise UserError(f"{name}: is not a trained generator of this version; train a new one.")
    dtypes = {tensor.dtype for tensor in tensors.values()}
    try:
        if not dtypes <= _DTYPES:
            raise TypeError(f"{dtypes - _DTYPES} are not dtypes of weights")  # noqa: TRY301
        trained = TrainedGenerator.build(
            ChemicalSystem(caps=dict(metadata["caps"])),
            TrainingParameters(**metadata["parameters"]),
            seed=int(metadata["seed"]),
        )
        trained.networks.load_state_dict(tensors)
        trained.steps, trained.seconds = int(metadata["steps"]), float(metadata["seconds"])
        trained.history, trained.dataset = metadata["history"], metadata.get("dataset")
    except (ArithmeticError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{name}: is a damaged generator file; train a new generator.") from error
    trained.file_sha256, trained.half = sha256, torch.float16 in dtypes
    if broken := _not_finite(tensors):
        raise UserError(f"{name}: {broken} is not finite; train a new generator.")
    caps = trained.system.caps.items()
    # Row blocks follow the order of the elements, which dict equality ignores.
    if system is not None and list(caps) != list(system.caps.items()):
        raise UserError(
            f"{name}: was trained for {format_caps(caps)}, not for "
            f"{format_caps(system.caps.items())}; use the checkpoint of this campaign or train a "
            "new generator."
        )
    return trained


def load_output(
    output: Mapping[str, Any], *, system: ChemicalSystem | None = None
) -> TrainedGenerator:
    """Read the generator in the output of a training job, which has its weights in base64."""
    weights = base64.b64decode(output["weights"])
    return load(weights, expected_sha256=output["sha256"], system=system)


@dataclass(kw_only=True)
class TrainingState(Training):
    """State from which a training resumes exactly.

    Attributes
    ----------
    networks
        In training mode on one device, including the critic.
    optimizers
        By the names of the networks.
    rng
        Random generator of batches, noise and conditions; always on the CPU.
    processor
        Device and precision of the last steps, as text.
    """

    optimizers: dict[str, torch.optim.Adam]
    rng: torch.Generator
    processor: str = ""

    @classmethod
    def fresh(
        cls,
        system: ChemicalSystem,
        parameters: TrainingParameters,
        seed: int,
        device: torch.device | None = None,
        start: TrainedGenerator | None = None,
    ) -> TrainingState:
        """Initialize the networks; the same seed gives the same weights on every device.

        Generator and classifier have the weights of ``start``, if given. Files have no critic.

        Raises
        ------
        UserError
            If ``start`` is of another system or has other parameters.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            networks = untrained_networks(system, parameters)
            networks["critic"] = Critic(system, parameters)
        if start is not None:
            same = list(start.system.caps.items()) == list(system.caps.items())
            if not same or start.parameters != parameters:
                raise UserError(
                    f"generator {start.sha256[:12]}: has another chemical system or other "
                    "parameters than the training; continue with those of the generator."
                )
            networks.load_state_dict(start.networks.state_dict(), strict=False)
        networks.train().to(device)
        betas = (parameters.beta1, parameters.beta2)
        return cls(
            networks=networks,
            system=system,
            parameters=parameters,
            seed=seed,
            optimizers={
                name: torch.optim.Adam(network.parameters(), betas=betas, fused=True)
                for name, network in networks.items()
            },
            rng=torch.Generator().manual_seed(seed),
        )

    @property
    def critic(self) -> Critic:
        """Image -> score."""
        return cast("Critic", self.networks["critic"])

    def set_learning_rates(self) -> None:
        """Set the learning rates of the current step; the decay has no state of its own."""
        p = self.parameters
        factor = p.learning_rate_decay ** (self.steps // p.decay_steps)
        for name, optimizer in self.optimizers.items():
            optimizer.param_groups[0]["lr"] = getattr(p, f"{name}_learning_rate") * factor

    def trained(self) -> TrainedGenerator:
        """Return a copy of the networks for sampling.

        Raises
        ------
        UserError
            If the training has diverged.
        """
        self._require_finite()
        networks = deepcopy(self.networks).cpu().eval()
        del networks["critic"]
        shared = {field.name: getattr(self, field.name) for field in dataclasses.fields(Training)}
        return TrainedGenerator(**shared | {"networks": networks})

    def save(self, path: Path, fingerprint: str) -> None:
        """Write the state atomically, with the fingerprint of the training.

        Raises
        ------
        UserError
            If the file cannot be written or the training has diverged. An older file is kept.
        """
        self._require_finite()
        tensors = self.networks.state_dict() | {"rng": self.rng.get_state()}
        for name, optimizer in self.optimizers.items():
            for i, moments in optimizer.state_dict()["state"].items():
                for moment, tensor in moments.items():
                    tensors[f"{name}_optimizer.{i}.{moment}"] = tensor
        metadata = {
            "format": _STATE_FORMAT,
            "fingerprint": fingerprint,
            "step": self.steps,
            "seconds": self.seconds,
            "processor": self.processor,
            "history": self.history,
        }
        write_atomically(path, serialize(tensors, metadata))

    def load(self, path: Path, fingerprint: str) -> None:
        """Restore a state written by :meth:`save`.

        Raises
        ------
        UserError
            If the file is damaged or belongs to another training.
        """
        tensors, metadata = deserialize(read_bytes(path), str(path), hint="remove it")
        if (metadata.get("format"), metadata.get("fingerprint")) != (_STATE_FORMAT, fingerprint):
            raise UserError(
                f"{path}: belongs to another training (version, data, parameters or seed differ); "
                "remove it or choose another folder."
            )
        try:
            self.rng.set_state(tensors.pop("rng"))
            for name, optimizer in self.optimizers.items():
                moments: dict[int, dict[str, Tensor]] = {}
                for key in [key for key in tensors if key.startswith(f"{name}_optimizer.")]:
                    _, i, moment = key.split(".")
                    moments.setdefault(int(i), {})[moment] = tensors.pop(key)
                optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
            self.networks.load_state_dict(tensors)
            self.steps, self.seconds = int(metadata["step"]), float(metadata["seconds"])
            self.processor = str(metadata["processor"])
            self.history = [dict(entry) for entry in metadata["history"]]
        except (ArithmeticError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"{path}: is a damaged training checkpoint; remove it.") from error

    def _require_finite(self) -> None:
        """Check the weights after a step; the losses are from before it."""
        if broken := _not_finite(self.networks.state_dict()):
            raise UserError(
                f"training: {broken} is not finite after step {self.steps}; lower the learning "
                "rates in generator.overrides."
            )


def _not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of a tensor with values that are not finite, or None."""
    return next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None)


def read_bytes(path: Path) -> bytes:
    """Read a file; raise a :class:`UserError` if this fails."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read the checkpoint: {error.strerror}.") from error


def serialize(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Serialize tensors with JSON metadata, deterministically."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    signed = {**metadata, _DIGEST_KEY: _digest(contiguous, metadata)}
    text = json.dumps(signed, sort_keys=True, allow_nan=False)
    return safetensors.torch.save(contiguous, metadata={_METADATA_KEY: text})


def deserialize(
    data: bytes, name: str, hint: str = "give a file written by `gan-htvs train`"
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and metadata of :func:`serialize`; ``name`` and ``hint`` are for errors.

    Raises
    ------
    UserError
        If the bytes are not a safetensors file of this package or were changed.
    """
    try:
        tensors = safetensors.torch.load(data)
        length = int.from_bytes(data[:_HEADER_LENGTH_BYTES], "little")
        header = json.loads(data[_HEADER_LENGTH_BYTES : _HEADER_LENGTH_BYTES + length])
        metadata = dict(json.loads(header["__metadata__"][_METADATA_KEY]))
        digest = metadata.pop(_DIGEST_KEY, None)
        is_changed = digest != _digest(tensors, metadata)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{name}: is not a readable checkpoint (truncated, or another kind of file); {hint}."
        ) from error
    if is_changed and hashlib.sha256(data).hexdigest() != _UNSIGNED:
        raise UserError(f"{name}: was changed after it was written; {hint}.")
    return tensors, metadata


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """Hash the content of a file."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
