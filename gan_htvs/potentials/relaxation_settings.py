"""Settings of relaxations with interatomic potentials."""

from __future__ import annotations

from operator import not_
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from gan_htvs.core.settings import PositiveFloat, PositiveInt, Settings
from gan_htvs.potentials.calculators import SHIPPED, known_potential

PotentialName = Annotated[str, AfterValidator(known_potential)]


REFERENCE_STEPS = 1000
"""Smallest limit on relaxation steps of reference phases."""


class PotentialSettings(Settings):
    """Settings of a relaxation with an interatomic potential."""

    name: PotentialName = Field("chgnet", description="interatomic potential")
    # Omitted when empty, so that the hashes of jobs without arguments stay the same.
    arguments: dict[str, JsonValue] = Field(
        default_factory=dict,
        exclude_if=not_,
        description="keyword arguments of the ASE calculator, for potentials with names of "
        "atomate2, such as {model: /path/to/model}",
    )
    fmax: PositiveFloat = Field(0.1, description="largest force of a converged structure, eV/A")
    max_steps: PositiveInt = Field(
        500, description="largest number of steps; longer relaxations count as failed"
    )
    optimizer: Literal["CellAwareBFGS", "FIRE", "LBFGS", "BFGS"] = Field(
        "CellAwareBFGS",
        description="ASE optimizer; LBFGS can jump into unphysical minima of a potential",
    )
    symmetry_tolerances: tuple[PositiveFloat, ...] = Field(
        (0.3, 0.2, 0.1),
        description="tolerances of the symmetrized copies that are tried after a relaxation, A, "
        "largest first; a copy replaces the relaxed structure if its energy is not higher; []: "
        "none",
    )

    @model_validator(mode="after")
    def _arguments_need_a_potential_of_atomate2(self) -> Self:
        if self.arguments and self.name in SHIPPED:
            raise ValueError(
                f"arguments: {self.name!r} takes none, its model is part of its name; remove them"
            )
        return self

    @property
    def level_of_theory(self) -> str:
        """Label of the energies."""
        from gan_htvs.potentials.corrections import level_of_theory  # noqa: PLC0415 - slow

        return level_of_theory(self.name, self.arguments).label

    @property
    def for_references(self) -> Self:
        """Settings with a larger limit on steps, for reference phases.

        The hull needs all of them, they are few, and their number of steps depends on the
        processor.
        """
        return self.model_copy(update={"max_steps": max(self.max_steps, REFERENCE_STEPS)})
