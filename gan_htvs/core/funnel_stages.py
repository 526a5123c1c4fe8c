"""Stages of the funnel.

Each stage has a property and a window. A candidate has the name of the last stage that it passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import Field, model_validator

from gan_htvs.core.properties import (
    BAND_GAP,
    ENERGY_ABOVE_HULL,
    IS_NOVEL,
    OXIDATION_STATE,
    POURBAIX,
    PROPERTIES,
    Property,
    UserProperty,
    property_of,
)
from gan_htvs.core.settings import Settings
from gan_htvs.core.stages import Stage
from gan_htvs.core.text import is_text_everywhere

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class FunnelStage(Settings):
    """One stage of the funnel. Without ``min`` and ``max``, any value passes."""

    name: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,39}$",
        description="name of the candidates that pass; letters, digits, _ and -; not a truth "
        "value, none or null",
    )
    property: str = Field(
        description=f"one of {', '.join(PROPERTIES)}, {OXIDATION_STATE}Mn (any element), or a name "
        "in `properties`; computed only for candidates that pass the stages before"
    )
    min: float | None = Field(None, description="smallest value that passes; null: no limit")
    max: float | None = Field(None, description="largest value that passes; null: no limit")

    @model_validator(mode="before")
    @classmethod
    def _novel_crystals_pass(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("property") == IS_NOVEL:
            return value if {"min", "max"} & value.keys() else value | {"min": 1}
        return value

    @model_validator(mode="after")
    def _window_is_valid(self) -> FunnelStage:
        if self.name in set(Stage):
            raise ValueError(
                f"name {self.name!r} is reserved for candidates before any stage; choose another"
            )
        if not is_text_everywhere(self.name):
            raise ValueError(
                f"name {self.name!r} would be read as a number, truth value or missing value from "
                "YAML, CSV and extxyz files; choose another word"
            )
        if None not in (self.min, self.max) and self.min > self.max:  # type: ignore[operator]
            raise ValueError(f"min {self.min:g} must not be above max {self.max:g}")
        return self

    def admits(self, value: float) -> bool:
        """Return whether a value lies in the window."""
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)

    def describe(self, quantity: Property) -> str:
        """Return the property and the window in words."""
        if self.property == IS_NOVEL:
            return "novel" if self.admits(1) else "known"
        match self.min, self.max:
            case None, None:
                return f"any {quantity.label}"
            case None, high:
                window = f"<= {high:g}"
            case low, None:
                window = f">= {low:g}"
            case low, high:
                window = f"{low:g} to {high:g}"
        return f"{quantity.label} {window} {quantity.unit}".rstrip()

    def rejection(self, value: float, quantity: Property) -> str:
        """Return why a value outside the window does not pass."""
        if self.property == IS_NOVEL:
            return "a known crystal" if self.admits(1) else "a novel crystal"
        bound = f"< {self.min:g}" if self.max is None or value < self.max else f"> {self.max:g}"
        return quantity.compare(value, bound)


PUBLISHED_STAGES: Final = (
    FunnelStage(name="metastable", property=ENERGY_ABOVE_HULL, max=0.2),
    FunnelStage(name="synthesizable", property=ENERGY_ABOVE_HULL, max=0.08),
    FunnelStage(name="pourbaix_metastable", property=POURBAIX, max=0.8),
    FunnelStage(name="band_gap_computed", property=BAND_GAP),
    FunnelStage(name="pourbaix_stable", property=POURBAIX, max=0.59),
    FunnelStage(name="photoanode", property=BAND_GAP, min=1.6, max=3.0),
)
"""The photoanode search of Kim et al., ACS Cent. Sci. 2020, 6, 1412; eV/atom and eV."""


class Decision(NamedTuple):
    """The stage of a candidate, and why it does not reach the next one."""

    stage: str
    reason: str | None = None
    missing: str | None = None
    """Property that the next stage needs and that is not computed."""


def check_stages(stages: Sequence[FunnelStage], properties: Mapping[str, UserProperty]) -> None:
    """Check that names are unique and that the properties of all stages exist.

    Raises
    ------
    ValueError
        If a name occurs twice or a property is unknown; the message starts with the setting.
    """
    names = [stage.name for stage in stages]
    for i, stage in enumerate(stages):
        where = f"stages.{i} ({stage.name})"
        if names.index(stage.name) < i:
            raise ValueError(f"{where}: the name occurs twice; choose another")
        if property_of(stage.property, properties) is None:
            known = ", ".join([*PROPERTIES, f"{OXIDATION_STATE}Mn", *properties])
            raise ValueError(
                f"{where}: property {stage.property!r} is unknown; use one of {known}, or add it "
                "to properties"
            )
    for name in properties:
        if property_of(name, {}) is not None:
            raise ValueError(
                f"properties.{name}: the package has a property of this name; choose another"
            )
        if not name.isidentifier():
            raise ValueError(
                f"properties: {name!r} must consist of letters, digits and underscores"
            )


class FunnelSettings(Settings):
    """Stages in the order in which candidates pass them, and the user's own properties."""

    stages: tuple[FunnelStage, ...] = PUBLISHED_STAGES
    properties: dict[str, UserProperty] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _stages_are_consistent(self) -> FunnelSettings:
        check_stages(self.stages, self.properties)
        return self

    def uses(self, name: str) -> bool:
        """Return whether a stage needs a property."""
        return any(stage.property == name for stage in self.stages)

    def windows(self, name: str) -> Iterator[FunnelStage]:
        """Yield the stages with a property, in order."""
        return (stage for stage in self.stages if stage.property == name)

    def loosest_max(self, name: str) -> float | None:
        """Return the largest upper limit of a property; None if there is none."""
        return max((s.max for s in self.windows(name) if s.max is not None), default=None)

    def strictest_max(self, name: str) -> float | None:
        """Return the smallest upper limit of a property; None if there is none."""
        return min((s.max for s in self.windows(name) if s.max is not None), default=None)

    def strictest_min(self, name: str) -> float | None:
        """Return the largest lower limit of a property; None if there is none."""
        return max((s.min for s in self.windows(name) if s.min is not None), default=None)

    def quantity(self, name: str) -> Property:
        """Return the property with a name; raise a KeyError if there is none."""
        quantity = property_of(name, self.properties)
        if quantity is None:
            raise KeyError(name)
        return quantity

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of candidate documents with the properties of the stages."""
        return tuple(dict.fromkeys(self.quantity(stage.property).path for stage in self.stages))

    def names_from(self, name: str) -> list[str]:
        """Return the names of candidates that passed all stages before the first with a property.

        These are the candidates for which the property is computed.
        """
        names = [Stage.RELAXED.value, *(stage.name for stage in self.stages)]
        first = next((i for i, s in enumerate(self.stages) if s.property == name), None)
        return [] if first is None else names[first:]

    def decide(
        self, document: Mapping[str, Any], reasons: Mapping[str, str | None] | None = None
    ) -> Decision:
        """Return the last stage that a candidate passes.

        Parameters
        ----------
        document
            Fields of a candidate document with the properties that are computed.
        reasons
            Why properties are missing, by name.
        """
        reached: str = Stage.RELAXED
        for stage in self.stages:
            quantity = self.quantity(stage.property)
            value = quantity.value_in(document)
            if value is None:
                reason = (reasons or {}).get(stage.property)
                reason = reason or f"{quantity.label} not computed"
                return Decision(reached, reason, stage.property)
            if not stage.admits(value):
                return Decision(reached, stage.rejection(value, quantity))
            reached = stage.name
        return Decision(reached)
