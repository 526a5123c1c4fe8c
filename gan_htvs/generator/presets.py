"""Training parameters by preset: text of the paper, code of its authors, and ``tuned``.

Kim et al., ACS Cent. Sci. 2020, 6, 1412 (text) and the published code differ in some parameters,
and others are missing in the text. All of them are fields of :class:`TrainingParameters`, and the
presets differ in nothing else. Where the text does not specify a value, ``paper`` uses that of the
code, except for the argument 0.8 of the batch normalizations, which sets their epsilon, probably
by mistake.

=============================  ============================  ==============================
field                          ``paper`` (text)              ``authors`` (code)
=============================  ============================  ==============================
critic_learning_rate           1e-4                          5e-5
generator_learning_rate        1e-4                          5e-5
classifier_learning_rate       1e-4                          2.5e-5
learning_rate_decay            none: 1.0                     0.95
decay_steps                    without effect                7000, that is 10 epochs
batch_size                     32                            32
beta1, beta2                   0.5, 0.999                    0.5, 0.999
critic_steps                   not given: 5                  5
noise_dim                      not given: 512                512
batch_norm_eps                 not given: 1e-5               0.8
gradient_penalty               10                            10
slope_of_sum                   0: slope of the mean score    1: of the sum of the 10 outputs
atom_branch_norms              4: "4 conv + BN"              3: not after the last layer
softmax_twice                  0                             1: before the cross entropy, too
lambda_1 (generated counts)    1                             1
lambda_2 (generated atoms)     1                             0
lambda_c                       0.3                           0.3
lambda_c_on_atoms              0: weight of the counts       1: weight of the atoms
lambda_cell                    0: no such branch             0.1: cell rows -> atoms per cell
uniform_conditions             0: C_gen                      1: every cell within the caps
padding_noise_mean, _std       none: 0, 0                    abs(N(1e-3, 10^-2.5))
classifier_in_generator_step   not given: 1                  1
=============================  ============================  ==============================

The widths of the networks are specified only in the code; ``width`` multiplies all of them. The
text trains for 500 and the code for 501 epochs of 112,000 images, about 350,000 generator steps;
here, the campaign sets the length of the training.

Layers are not fields: the text gives only their number, so generator, critic and classifier have
the layers of the code (:mod:`gan_htvs.generator.networks`). The input of the generator is noise,
the atoms over the rows and one-hot counts (512 + 1 + 8 + 8 + 12 numbers); in the text, noise and
one-hot composition.

A third preset, ``tuned``, departs from the paper: its generator produces frameworks
(:mod:`gan_htvs.generator.frameworks`) of exact composition, and the fields of the classifier have
no effect. Its changes and additional fields are:

=============================  ============================  ==============================
field                          ``paper``, ``authors``        ``tuned``
=============================  ============================  ==============================
lambda_coverage                0: no coverage loss           10
coverage_tries                 without effect                12
energy_scale                   0: equal weights              0.1: exp(-E_hull / 0.1 eV/atom)
noise_dim                      512                           4, and 28 for the site ordering
width                          1                             0.25
batch_size                     32                            64
critic_steps                   5                             1
generator_learning_rate        1e-4, 5e-5                    1e-3
critic_learning_rate           1e-4, 5e-5                    2e-4
learning_rate_decay            none, 0.95                    0.8
decay_steps                    7000                          600
beta1, beta2                   0.5, 0.999                    0, 0.9
=============================  ============================  ==============================
"""

from __future__ import annotations

import dataclasses
import difflib
from typing import TYPE_CHECKING, Annotated

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from gan_htvs.core.errors import UserError
from gan_htvs.core.settings import NonNegativeFloat, PositiveFloat, PositiveInt, first_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

Flag = Annotated[int, Field(ge=0, le=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=ConfigDict(allow_inf_nan=False))
class TrainingParameters:
    """Numerical parameters of networks and training. Defaults: ``paper``.

    Switches are 0 or 1.
    """

    noise_dim: PositiveInt = 512
    width: PositiveFloat = 1.0
    """Factor on all hidden widths; not in the paper."""
    batch_norm_eps: PositiveFloat = 1e-5
    batch_size: Annotated[int, Field(gt=1)] = 32
    """At least two, since batch normalization needs a variance."""
    critic_steps: PositiveInt = 5
    """Critic updates per generator update."""
    critic_learning_rate: PositiveFloat = 1e-4
    generator_learning_rate: PositiveFloat = 1e-4
    classifier_learning_rate: PositiveFloat = 1e-4
    learning_rate_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor on all learning rates every ``decay_steps`` generator steps."""
    decay_steps: PositiveInt = 7000
    """Ten epochs of 112,000 images at batch 32 and five critic steps."""
    beta1: Momentum = 0.5
    beta2: Momentum = 0.999
    gradient_penalty: NonNegativeFloat = 10.0
    slope_of_sum: Flag = 0
    """1: penalize the gradient of the sum of the critic's ten outputs; 0: of their mean."""
    atom_branch_norms: Annotated[int, Field(ge=3, le=4)] = 4
    """Number of batch normalizations in the four layers of the classifier's atom branch."""
    softmax_twice: Flag = 0
    lambda_1: NonNegativeFloat = 1.0
    lambda_2: NonNegativeFloat = 1.0
    lambda_c: NonNegativeFloat = 0.3
    lambda_c_on_atoms: Flag = 0
    lambda_cell: NonNegativeFloat = 0.0
    """Weight of the squared error of the fraction of filled atom rows predicted from the cell."""
    uniform_conditions: Flag = 0
    """1: condition on every cell within the caps; 0: on the compositions to be generated."""
    padding_noise_mean: NonNegativeFloat = 0.0
    padding_noise_std: NonNegativeFloat = 0.0
    """The classifier sees the absolute value of this normal noise as padding of real images."""
    classifier_in_generator_step: Flag = 1
    """1: the classifier also learns from generated images; 0: from real ones only."""
    lambda_coverage: NonNegativeFloat = 0.0
    """Weight of the coverage loss; if positive, the generator produces frameworks."""
    coverage_tries: PositiveInt = 12
    """Number of generated frameworks; the nearest one to a crystal enters the coverage loss."""
    energy_scale: NonNegativeFloat = 0.0
    """Crystals are weighted by exp(-energy above hull / energy_scale), eV/atom; 0: equally."""

    @property
    def draws_frameworks(self) -> bool:
        """Whether the generator produces frameworks, which need no classifier."""
        return self.lambda_coverage > 0

    def scaled(self, *units: int) -> list[int]:
        """Return published hidden widths times ``width``."""
        return [max(1, round(n * self.width)) for n in units]


PRESETS = {
    "paper": TrainingParameters(),
    "authors": TrainingParameters(
        critic_learning_rate=5e-5,
        generator_learning_rate=5e-5,
        classifier_learning_rate=2.5e-5,
        learning_rate_decay=0.95,
        batch_norm_eps=0.8,
        slope_of_sum=1,
        atom_branch_norms=3,
        softmax_twice=1,
        lambda_2=0.0,
        lambda_c_on_atoms=1,
        lambda_cell=0.1,
        uniform_conditions=1,
        padding_noise_mean=1e-3,
        padding_noise_std=10**-2.5,
    ),
    "tuned": TrainingParameters(
        noise_dim=4,
        width=0.25,
        batch_size=64,
        critic_steps=1,
        generator_learning_rate=1e-3,
        critic_learning_rate=2e-4,
        learning_rate_decay=0.8,
        decay_steps=600,
        beta1=0.0,
        beta2=0.9,
        lambda_coverage=10.0,
        energy_scale=0.1,
    ),
}
"""Parameters by name of the preset: the columns of the tables above."""


def training_parameters(
    preset: str = "paper", overrides: Mapping[str, float | int] | None = None
) -> TrainingParameters:
    """Return the parameters of a preset with some fields overridden.

    Raises
    ------
    UserError
        If the preset or a field does not exist, or a value is not allowed.
    """
    if preset not in PRESETS:
        raise UserError(
            f"generator.preset: unknown preset {preset!r}; use one of {', '.join(PRESETS)}."
        )
    known = [field.name for field in dataclasses.fields(TrainingParameters)]
    for name in (overrides or {}).keys() - known:
        close = difflib.get_close_matches(name, known) or known
        raise UserError(
            f"generator.overrides: unknown parameter {name!r}; did you mean {' or '.join(close)}?"
        )
    try:
        return dataclasses.replace(PRESETS[preset], **(overrides or {}))  # type: ignore[arg-type]
    except ValidationError as error:
        value = error.errors()[0]["input"]
        raise UserError(f"generator.overrides.{first_problem(error)}, not {value!r}.") from error
