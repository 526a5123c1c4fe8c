"""Training parameters by preset: what the text of the paper says, and later what its code does.

Every row on which Kim et al., ACS Cent. Sci. 2020, 6, 1412 (text) and the code published with it
differ or are silent is a field of :class:`TrainingParameters`:

=============================  =========================  ==============================
field                          ``paper`` (text)           published code
=============================  =========================  ==============================
critic_learning_rate           1e-4                       5e-5
generator_learning_rate        1e-4                       5e-5
classifier_learning_rate       1e-4                       2.5e-5
learning_rate_decay            none (1.0)                 0.95 every 10 epochs
batch_size                     32                         32
beta1, beta2                   0.5, 0.999                 0.5, 0.999
gradient_penalty               10                         10
critic_steps                   not given: 5               5
noise_dim                      not given: 512             512
lambda_1 (generated comp.)     1                          1
lambda_2 (generated atoms)     1                          0
lambda_c                       0.3, on the composition    0.3, on the atoms
softmax before cross entropy   no                         yes, so twice in all
fake conditions                C_gen, see ``train``       uniform over the caps
padding noise                  none                       abs(N(1e-3, 10^-2.5))
classifier_in_generator_step   not given: yes             yes
batch_norm_eps                 not given: 1e-5            0.8
cell branch of the classifier  none                       number of atoms, weight 0.1
=============================  =========================  ==============================

``width`` is ours: it multiplies every hidden width, 1 being the published networks.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from gan_htvs.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class TrainingParameters:
    """Everything about networks and training that is a number. Defaults: ``paper``."""

    noise_dim: int = 512
    width: float = 1.0
    batch_norm_eps: float = 1e-5
    batch_size: int = 32
    critic_steps: int = 5
    critic_learning_rate: float = 1e-4
    generator_learning_rate: float = 1e-4
    classifier_learning_rate: float = 1e-4
    learning_rate_decay: float = 1.0
    """Factor on all learning rates every ``decay_steps`` generator steps."""
    decay_steps: int = 7000
    """Ten epochs of 112,000 images at batch 32 and five critic steps."""
    beta1: float = 0.5
    beta2: float = 0.999
    gradient_penalty: float = 10.0
    lambda_1: float = 1.0
    lambda_2: float = 1.0
    lambda_c: float = 0.3
    classifier_in_generator_step: int = 1
    """1: the classifier learns from generated images too, 0: from real ones only."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not _is_allowed(field.name, value):
                raise ValueError(f"{field.name} = {value!r} is out of range")


_MAY_BE_ZERO = frozenset(
    {"lambda_1", "lambda_2", "lambda_c", "gradient_penalty", "beta1", "beta2"}
    | {"classifier_in_generator_step"}
)


def _is_allowed(name: str, value: float) -> bool:
    if not math.isfinite(value) or value < 0 or (value == 0 and name not in _MAY_BE_ZERO):
        return False
    if name == "batch_size":
        # Batch normalisation has no variance of a single sample.
        return value > 1
    if name in ("beta1", "beta2"):
        return value < 1
    return value <= 1 if name == "learning_rate_decay" else True


PRESETS: Mapping[str, TrainingParameters] = MappingProxyType({"paper": TrainingParameters()})
"""Named parameter sets. The published code's column is the next row."""


def training_parameters(
    preset: str = "paper", overrides: Mapping[str, float | int] | None = None
) -> TrainingParameters:
    """Take a preset and change single fields of it.

    Raises
    ------
    UserError
        If the preset or a field does not exist, or a value is out of range or not integral where
        the field is.
    """
    if preset not in PRESETS:
        raise UserError(f"generator.preset: no preset {preset!r}; use one of {', '.join(PRESETS)}.")
    integral = {f.name: f.type == "int" for f in dataclasses.fields(TrainingParameters)}
    changes: dict[str, float | int] = {}
    for name, value in (overrides or {}).items():
        if name not in integral:
            close = difflib.get_close_matches(name, integral, n=1)
            cure = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(integral)}."
            raise UserError(f"generator.overrides: unknown parameter {name!r}; {cure}")
        if integral[name] and value != int(value):
            raise UserError(f"generator.overrides.{name}: {value!r} must be a whole number.")
        changes[name] = int(value) if integral[name] else float(value)
    try:
        return dataclasses.replace(PRESETS[preset], **changes)  # type: ignore[arg-type]
    except ValueError as error:
        raise UserError(f"generator.overrides: {error}; give a value inside it.") from error
