"""Section ``prescreen`` of campaign.yaml."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from gan_htvs.core.settings import NonNegativeFloat, PositiveFloat, PositiveInt, Settings
from gan_htvs.potentials.calculators import SHIPPED
from gan_htvs.potentials.relaxation_settings import PotentialName, PotentialSettings

if TYPE_CHECKING:
    from gan_htvs.campaign.engines import EngineSettings

Device = Literal["auto", "cpu", "cuda"]

CONFIRMATION_STEPS = 20
"""Limit on the steps of the second potential, after which a disagreement is final."""


class PrescreenSettings(Settings):
    """Screening by interatomic potentials, one batch per job; see docs/prescreen.md."""

    potential: PotentialName | None = Field(
        None,
        description="potential of the relaxations; null: the potential of `engines.energy`, or "
        "'chgnet' before VASP",
    )
    arguments: dict[str, JsonValue] = Field(
        default_factory=dict, description="as `engines.energy.arguments`, for this potential"
    )
    confirm: PotentialName | Literal["none"] | None = Field(
        None,
        description="independent potential that must agree; null: 'sevennet-0', or 'chgnet' if "
        "SevenNet relaxes; 'none': no confirmation",
    )
    confirm_arguments: dict[str, JsonValue] = Field(
        default_factory=dict, description="the same for the potential of `confirm`"
    )
    max_steps: PositiveInt = Field(
        200, description="largest number of steps; longer relaxations count as failed"
    )
    window: PositiveFloat | None = Field(
        None,
        description="largest energy above hull of survivors, eV/atom; null: the "
        "largest limit of the stages with this property, or 0.2",
    )
    recall: Annotated[float, Field(gt=0, le=1)] = Field(
        0.94,
        description="share of the structures within the window that early stopping must keep, "
        "according to its calibration; 1: no early stopping",
    )
    audit: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1,
        description="share of structures that are never stopped early, to estimate how many good "
        "ones early stopping loses",
    )
    disagreement: PositiveFloat = Field(
        0.1,
        description="largest difference between the energies above hull of the two potentials, "
        "eV/atom",
    )
    symmetry_tolerance: NonNegativeFloat = Field(
        0.1, description="tolerance for symmetrizing structures, A; 0: they are not symmetrized"
    )

    device: Device = Field(
        "auto",
        description="device of relaxations; 'cpu': the cores of the job, one structure per core; "
        "'cuda': one GPU, all structures of the job at once; 'auto': a GPU if there is one and the "
        "potential is SevenNet, see docs/gpu-relaxation.md. Potentials with names of atomate2 run "
        "on the device in their `arguments`",
    )

    @model_validator(mode="after")
    def _arguments_have_a_potential(self) -> Self:
        for section, arguments, name in (
            ("arguments", self.arguments, self.potential),
            ("confirm_arguments", self.confirm_arguments, self.confirm),
        ):
            if arguments and name in {None, "none", *SHIPPED}:
                raise ValueError(
                    f"{section} are for a potential with a name of atomate2 in the same section, "
                    f"not for {name!r}; remove them"
                )
        return self

    def relaxing(self, engines: EngineSettings) -> PotentialSettings:
        """Return the settings of the potential that relaxes."""
        arguments = self.arguments if self.potential else engines.energy.arguments
        return self._settings(self._potential(engines), arguments, engines, self.max_steps)

    def confirming(self, engines: EngineSettings) -> PotentialSettings | None:
        """Return the settings of the potential that confirms; None without confirmation."""
        if self.confirm == "none":
            return None
        other = "chgnet" if self._potential(engines).startswith("sevennet") else "sevennet-0"
        name = self.confirm or other
        return self._settings(name, self.confirm_arguments, engines, CONFIRMATION_STEPS)

    def potentials(self, engines: EngineSettings) -> tuple[PotentialSettings, ...]:
        """Return the settings of the one or two potentials."""
        return tuple(filter(None, (self.relaxing(engines), self.confirming(engines))))

    def decides_energy(self, engines: EngineSettings) -> bool:
        """Return whether its energies are final, so that survivors are not relaxed again."""
        relaxing = self.relaxing(engines)
        return (relaxing.name, relaxing.arguments) == (
            engines.energy.name,
            engines.energy.arguments,
        )

    def _potential(self, engines: EngineSettings) -> str:
        if self.potential is not None:
            return self.potential
        by_vasp = engines.energy.name == "vasp"
        return (engines.vasp.pre_relaxation or "chgnet") if by_vasp else engines.energy.name

    def _settings(
        self, name: str, arguments: dict[str, JsonValue], engines: EngineSettings, max_steps: int
    ) -> PotentialSettings:
        return PotentialSettings(
            name=name,
            arguments=arguments,
            fmax=engines.energy.fmax,
            max_steps=max_steps,
            optimizer=engines.energy.optimizer,
        )
