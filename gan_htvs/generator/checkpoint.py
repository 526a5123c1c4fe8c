"""Trained generators as content-addressed safetensors files; never pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from gan_htvs.chemistry import ChemicalSystem, spell_caps
from gan_htvs.errors import UserError
from gan_htvs.files import write_atomically
from gan_htvs.generator.frameworks import FrameworkGenerator
from gan_htvs.generator.networks import Classifier, Generator
from gan_htvs.generator.presets import TrainingParameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

_FORMAT = "gan-htvs generator 1"
_METADATA_KEY = "gan_htvs"
_DIGEST_KEY = "digest"
_UNSIGNED = "fd00c8269b6cc87770dd00d41b21064b50f05dd7a7e6a6aaf3d78c9b8f55e5ce"
"""sha256 of the generator that comes with the package, which is older than digests."""
_HEADER_LENGTH_BYTES = 8
_DTYPES = {torch.float32, torch.float16, torch.int64}


@dataclass
class TrainedGenerator:
    """What sampling needs: the generator, the classifier that reads it, and their history.

    Attributes
    ----------
    generator, classifier
        Networks in evaluation mode; no classifier where the composition is exact.
    system
        Elements and caps that they were built for.
    parameters
        Training parameters.
    seed, steps, seconds
        Random seed, generator steps taken and wall time spent on them, s.
    history
        One entry per logged step, see :func:`gan_htvs.generator.training.train`.
    half
        Whether the file holds weights as float16; see :meth:`halved`.
    dataset
        Content hash of what it learnt from, :attr:`gan_htvs.dataset.Dataset.hash`, if known.
    file_sha256
        Hash of the file that it was read from, if any.
    """

    generator: Generator | FrameworkGenerator
    classifier: Classifier | None
    system: ChemicalSystem
    parameters: TrainingParameters
    seed: int
    steps: int
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)
    half: bool = False
    dataset: str | None = None
    file_sha256: str | None = None

    @classmethod
    def build(
        cls,
        system: ChemicalSystem,
        parameters: TrainingParameters,
        *,
        seed: int,
        steps: int = 0,
        seconds: float = 0.0,
        history: list[dict[str, float]] | None = None,
    ) -> TrainedGenerator:
        """Make the networks that belong to ``system`` and ``parameters``."""
        generator: Generator | FrameworkGenerator
        classifier: Classifier | None = None
        if parameters.draws_frameworks:
            generator = FrameworkGenerator(
                system, latent_dim=parameters.noise_dim, width=parameters.width
            )
        else:
            generator = Generator(
                system,
                noise_dim=parameters.noise_dim,
                width=parameters.width,
                batch_norm_eps=parameters.batch_norm_eps,
            )
            classifier = Classifier(
                system,
                width=parameters.width,
                batch_norm_eps=parameters.batch_norm_eps,
                atom_branch_norms=parameters.atom_branch_norms,
                with_cell_branch=parameters.lambda_cell > 0,
            )
        return cls(
            generator.eval(),
            None if classifier is None else classifier.eval(),
            system,
            parameters,
            seed,
            steps,
            seconds,
            history or [],
        )

    def halved(self) -> TrainedGenerator:
        """Round all weights to float16, which halves the file.

        Raises
        ------
        UserError
            If one is too large for that.
        """
        half = TrainedGenerator.build(
            self.system,
            self.parameters,
            seed=self.seed,
            steps=self.steps,
            seconds=self.seconds,
            history=self.history,
        )
        for name, network in half.networks.items():
            weights = self.networks[name].state_dict()
            network.load_state_dict(
                {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
            )
            if not all(weight.isfinite().all() for weight in network.state_dict().values()):
                raise UserError(
                    f"training: a number of the {name} is too large for float16; leave out --half."
                )
        half.half, half.dataset = True, self.dataset
        return half

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The networks that there are, by name."""
        named = {"generator": self.generator, "classifier": self.classifier}
        return {name: network for name, network in named.items() if network is not None}

    @property
    def sha256(self) -> str:
        """Identity: hash of the file that it was read from, or else of :meth:`to_bytes`."""
        return self.file_sha256 or hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def content_sha256(self) -> str:
        """Hash of what decides the samples: networks, system and parameters.

        Unlike :attr:`sha256` it does not depend on how long the training took, so that one that was
        interrupted ends with the same value.
        """
        return hashlib.sha256(pack(self._tensors(), self._content())).hexdigest()

    def to_bytes(self) -> bytes:
        """Write everything as one safetensors file, metadata as JSON in its header."""
        metadata = {
            **self._content(),
            "seed": self.seed,
            "steps": self.steps,
            "seconds": self.seconds,
            "history": self.history,
            "dataset": self.dataset,
        }
        return pack(self._tensors(), metadata)

    def _content(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            # As pairs: JSON objects are sorted here, and the order of the row blocks matters.
            "caps": list(self.system.caps.items()),
            "parameters": dataclasses.asdict(self.parameters),
        }

    def _tensors(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for name, network in self.networks.items():
            tensors |= prefixed(name, network.state_dict())
        if self.half:
            tensors = {
                name: tensor.half() if tensor.is_floating_point() else tensor
                for name, tensor in tensors.items()
            }
        return tensors

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

    def save(self, path: str | Path) -> str:
        """Write the file atomically and return its sha256.

        Raises
        ------
        UserError
            If the file cannot be written.
        """
        data = self.to_bytes()
        write_atomically(Path(path), data)
        return hashlib.sha256(data).hexdigest()


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
        Refuse any other content. A file named ``generator-<12 digits>.safetensors`` is held to
        its name.
    system
        Refuse a generator of any other chemical system or other caps.

    Raises
    ------
    UserError
        One sentence, if the file is missing, truncated, tampered with, of another kind or of
        another chemical system.
    """
    name, data = _read(source)
    found = hashlib.sha256(data).hexdigest()
    expected_sha256 = expected_sha256 or _digits_in(name)
    if expected_sha256 is not None and not found.startswith(expected_sha256):
        raise UserError(
            f"{name}: its sha256 is {found[:12]}..., not {expected_sha256[:12]}... as "
            "recorded; it was changed or truncated, so copy it again or train anew."
        )
    tensors, metadata = unpack(data, name)
    if metadata.get("format") != _FORMAT:
        raise UserError(f"{name}: is not a trained generator of this version; train anew.")
    try:
        _require_weights(tensors)
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise UserError(f"{name}: holds weights that are not finite numbers; train anew.")
        own = ChemicalSystem(caps=dict(metadata["caps"]))
        trained = TrainedGenerator.build(
            own,
            TrainingParameters(**metadata["parameters"]),
            seed=int(metadata["seed"]),
            steps=int(metadata["steps"]),
            seconds=float(metadata["seconds"]),
            history=metadata["history"],
        )
        _restore_all(trained.networks, tensors)
        trained.dataset = metadata.get("dataset")
        trained.file_sha256 = found
        trained.half = any(tensor.dtype == torch.float16 for tensor in tensors.values())
    except (ArithmeticError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{name}: is a damaged generator file; train anew.") from error
    # Row blocks follow the order of the elements, which equality of two dicts does not see.
    if system is not None and list(own.caps.items()) != list(system.caps.items()):
        raise UserError(
            f"{name}: was trained for {spell_caps(own.caps.items())}, not for "
            f"{spell_caps(system.caps.items())}; use the checkpoint of this campaign or train anew."
        )
    return trained


def _require_weights(tensors: Mapping[str, Tensor]) -> None:
    if foreign := {tensor.dtype for tensor in tensors.values()} - _DTYPES:
        raise TypeError(f"{foreign} are no weights")


def _restore_all(networks: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]) -> None:
    """Load all tensors of a file; KeyError or RuntimeError if they do not fit."""
    if foreign := {key.split(".")[0] for key in tensors} - set(networks):
        raise KeyError(f"{foreign} in a file of {set(networks)}")
    for name, network in networks.items():
        restore(network, name, tensors)


def _digits_in(name: str) -> str | None:
    """Read the digits of the sha256 that :meth:`TrainedGenerator.save_in` put into a name."""
    found = re.search(r"generator-([0-9a-f]{12})\.safetensors$", name)
    return found and found[1]


def _read(source: str | Path | bytes) -> tuple[str, bytes]:
    if isinstance(source, bytes):
        return "generator checkpoint", source
    return str(source), read_bytes(Path(source))


def read_bytes(path: Path) -> bytes:
    """Read a file, any failure as a :class:`UserError`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read the checkpoint: {error.strerror}.") from error


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put a name in front of every key."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def restore(module: nn.Module, prefix: str, tensors: Mapping[str, Tensor]) -> None:
    """Load the tensors that :func:`prefixed` wrote; RuntimeError if they do not fit."""
    start = f"{prefix}."
    module.load_state_dict(
        {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
    )


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Serialise tensors with JSON metadata; the same content gives the same bytes."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    signed = {**metadata, _DIGEST_KEY: _digest(contiguous, metadata)}
    text = json.dumps(signed, sort_keys=True, allow_nan=False)
    return safetensors.torch.save(contiguous, metadata={_METADATA_KEY: text})


def unpack(
    data: bytes, name: str, cure: str = "give one that `gan-htvs train` wrote"
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Undo :func:`pack`; ``name`` is what an error calls the file, ``cure`` what it advises.

    Raises
    ------
    UserError
        If the bytes are no complete safetensors file with our metadata, or were changed since.
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
            f"{name}: is no readable checkpoint (truncated, or another kind of file); {cure}."
        ) from error
    if is_changed and hashlib.sha256(data).hexdigest() != _UNSIGNED:
        raise UserError(f"{name}: was changed after it was written; {cure}.")
    return tensors, metadata


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """Hash all that a file holds."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
