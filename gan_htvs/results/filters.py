"""Filters of candidate queries: typed values, which keep operators out of the database query."""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)
from pymatgen.core import Composition, Element

from gan_htvs.core.errors import UserError
from gan_htvs.core.settings import Settings, first_message
from gan_htvs.core.stages import REFERENCE_PHASE, Stage


def _reduced(formula: str) -> str:
    try:
        composition = Composition(formula)
        if composition.valid and composition:
            whole, _ = composition.get_integer_formula_and_factor()
            return Composition(whole).reduced_formula
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{formula!r} is not a chemical formula")


def _sorted_system(chemsys: str) -> str:
    symbols = sorted(chemsys.split("-"))
    unknown = [symbol for symbol in symbols if not Element.is_valid_symbol(symbol)]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not an element; write a chemical system as Mg-Mn-O")
    if len(set(symbols)) < len(symbols):
        raise ValueError("contains an element twice")
    return "-".join(symbols)


def _bounds(value: Any) -> Any:
    """Parse ``low..high``; either bound is optional."""
    if not isinstance(value, str):
        return value
    low, dots, high = value.partition("..")
    if not dots:
        raise ValueError(f"{value!r} is not a range; write 1.6..3.0, 1.6.. or ..3.0")
    return low.strip() or None, high.strip() or None


def _ordered(bounds: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    low, high = bounds
    if low is not None and high is not None and low > high:
        raise ValueError(f"the lower bound {low:g} exceeds the upper bound {high:g}")
    return bounds


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Text = Annotated[str, Field(min_length=1, max_length=200)]
Range = Annotated[
    tuple[FiniteFloat | None, FiniteFloat | None],
    BeforeValidator(_bounds),
    AfterValidator(_ordered),
]
"""Inclusive bounds; None: no bound. The command line writes ``low..high``."""


class Filters(Settings):
    """Criteria that candidates must meet; None: no criterion."""

    campaign: Text | None = None
    formula: Annotated[Text, AfterValidator(_reduced)] | None = Field(
        None, description="reduced formula, in any order: O4Mg2Mn matches Mg2MnO4"
    )
    chemsys: Annotated[Text, AfterValidator(_sorted_system)] | None = Field(
        None, description="exactly these elements, in any order: Mn-Mg-O"
    )
    stage: Annotated[tuple[Text, ...], BeforeValidator(_as_tuple)] | None = Field(
        None, description="one or several stages of the funnel"
    )
    proposer: Text | None = Field(None, description="as in `origin.proposer`")
    level_of_theory: Text | None = Field(None, description="level of theory of the energy")
    energy_above_hull: Range | None = Field(None, description="eV/atom; 0: stable")
    decomposition_energy: Range | None = Field(
        None, description="relative to the hull of all other phases, eV/atom"
    )
    reference_decomposition_energy: Range | None = Field(
        None, description="relative to the hull of the reference phases alone, eV/atom"
    )
    band_gap: Range | None = Field(None, description="eV")
    pourbaix_min: Range | None = Field(
        None, description="Pourbaix decomposition energy at the most favorable pH, eV/atom"
    )
    nsites: Range | None = Field(None, description="atoms in the cell")
    spacegroup: Annotated[int, Field(ge=1, le=230)] | None = Field(
        None, description="space group number at a tolerance of 0.1 A"
    )
    is_novel: bool | None = Field(
        None, description="neither a training structure nor a reference phase"
    )
    reference_phases: bool | None = Field(
        None, description="true: only reference phases; false: only proposed structures"
    )
    unique: bool = Field(
        default=False,
        description="only the lowest-energy candidate of each crystal, among all that match",
    )

    @model_validator(mode="after")
    def _reference_phases_have_no_other_proposer(self) -> Self:
        is_reference_proposer = self.proposer == REFERENCE_PHASE
        if (
            None not in (self.reference_phases, self.proposer)
            and is_reference_proposer != self.reference_phases
        ):
            raise ValueError("reference_phases and proposer exclude each other; remove one of them")
        return self

    @classmethod
    def from_values(cls, /, **values: Any) -> Self:
        """Validate filters.

        Raises
        ------
        UserError
            If a filter is unknown or its value invalid.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else ""
            if first["type"] == "extra_forbidden":
                known = ", ".join(cls.model_fields)
                raise UserError(f"{name!r} is not a filter; use one of {known}.") from error
            raise UserError(f"{name}{': ' if name else ''}{first_message(error)}.") from error

    def criteria(self) -> dict[str, Any]:
        """Return a MongoDB query, most selective criterion first; it cannot express ``unique``.

        MongoDB chooses an index itself; SecantusDB uses the index of the first criterion that has
        one.
        """
        query: dict[str, Any] = {}
        for name in (*SELECTIVE, *RANGES, *EXACT):
            value = getattr(self, name)
            if name in RANGES:
                value = _between(*value) if value else None
            elif name == "stage" and value is not None:
                value = value[0] if len(value) == 1 else {"$in": list(value)}
            if value is not None:
                query[field_path(name)] = value
        if self.reference_phases is not None and self.proposer is None:
            query["origin.proposer"] = (
                REFERENCE_PHASE if self.reference_phases else {"$ne": REFERENCE_PHASE}
            )
        return query


def _between(low: float | None, high: float | None) -> dict[str, float] | None:
    """Return the MongoDB condition of an inclusive range; None: no bound."""
    if high is not None:
        # With a compound index SecantusDB misses values equal to $lte. Without a lower bound it
        # scans all documents that lack the field.
        low = -math.inf if low is None else low
        return {"$gte": low, "$lt": math.nextafter(high, math.inf)}
    return None if low is None else {"$gte": low}


SELECTIVE = ("formula", "stage")
"""The most selective filters."""

EXACT = ("chemsys", "campaign", "proposer", "level_of_theory", "spacegroup", "is_novel")
"""Other filters that match a value exactly."""

RANGES = (
    "pourbaix_min",
    "band_gap",
    "energy_above_hull",
    "decomposition_energy",
    "reference_decomposition_energy",
    "nsites",
)
"""Filters that are ranges."""

SORTABLE = (*RANGES, "formula", "stage", "last_updated", "candidate_id")
"""Sort keys of candidates."""

_POURBAIX = "pourbaix.minimum"

_PATHS = {
    "formula": "formula_pretty",
    "proposer": "origin.proposer",
    "pourbaix_min": _POURBAIX,
    "spacegroup": "symmetry.number",
    "is_novel": "novelty.is_novel",
}


def field_path(name: str) -> str:
    """Return the document field of a filter or sort key."""
    return _PATHS.get(name, name)


COMMON_STAGES = {Stage.GENERATED, Stage.RELAXED, Stage.REJECTED}
"""Stages with many candidates."""


def is_selective(criteria: dict[str, Any]) -> bool:
    """Return whether fields other than the energy limit a query to few candidates."""
    stage = criteria.get("stage", Stage.GENERATED)
    stages = stage["$in"] if isinstance(stage, dict) else [stage]
    return COMMON_STAGES.isdisjoint(stages) or any(
        path in criteria for path in ("formula_pretty", "band_gap", _POURBAIX)
    )
