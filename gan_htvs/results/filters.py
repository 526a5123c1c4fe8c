"""What may be asked of the candidates: typed values, so that no operator reaches the database."""

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
    raise ValueError(f"{formula!r} is no formula")


def _sorted_system(chemsys: str) -> str:
    symbols = sorted(chemsys.split("-"))
    unknown = [symbol for symbol in symbols if not Element.is_valid_symbol(symbol)]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no element; write a system as Mg-Mn-O")
    if len(set(symbols)) < len(symbols):
        raise ValueError("names an element twice")
    return "-".join(symbols)


def _bounds(value: Any) -> Any:
    """Read ``low..high``, either end of which may be left out."""
    if not isinstance(value, str):
        return value
    low, dots, high = value.partition("..")
    if not dots:
        raise ValueError(f"{value!r} is no range; write 1.6..3.0, 1.6.. or ..3.0")
    return low.strip() or None, high.strip() or None


def _rising(bounds: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    low, high = bounds
    if low is not None and high is not None and low > high:
        raise ValueError(f"{low:g} is more than {high:g}; the smaller number comes first")
    return bounds


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Text = Annotated[str, Field(min_length=1, max_length=200)]
Range = Annotated[
    tuple[FiniteFloat | None, FiniteFloat | None],
    BeforeValidator(_bounds),
    AfterValidator(_rising),
]
"""Both ends belong to it; None: no bound. In words, as of a command line: ``low..high``."""


class Filters(Settings):
    """What candidates must be like; what is None does not matter."""

    campaign: Text | None = None
    formula: Annotated[Text, AfterValidator(_reduced)] | None = Field(
        None, description="reduced, in any order: O4Mg2Mn finds Mg2MnO4"
    )
    chemsys: Annotated[Text, AfterValidator(_sorted_system)] | None = Field(
        None, description="exactly these elements, in any order: Mn-Mg-O"
    )
    stage: Annotated[tuple[Stage, ...], BeforeValidator(_several)] | None = Field(
        None, description="stage of the funnel, or several"
    )
    proposer: Text | None = Field(None, description="as in `origin.proposer`")
    level_of_theory: Text | None = Field(None, description="of the energy")
    energy_above_hull: Range | None = Field(None, description="eV/atom")
    energy_above_references: Range | None = Field(
        None, description="above the reference phases alone, eV/atom"
    )
    band_gap: Range | None = Field(None, description="eV")
    pourbaix_min: Range | None = Field(
        None, description="decomposition energy in water at the pH where it is smallest, eV/atom"
    )
    nsites: Range | None = Field(None, description="atoms in the cell")
    spacegroup: Annotated[int, Field(ge=1, le=230)] | None = Field(None, description="number")
    is_novel: bool | None = Field(
        None, description="neither a training structure nor a reference phase"
    )
    reference_phases: bool | None = Field(
        None, description="phases of the reference set alone, or only what was proposed"
    )
    unique: bool = Field(
        default=False,
        description="of one crystal only the lowest in energy of those that all other filters find",
    )

    @model_validator(mode="after")
    def _reference_phases_have_no_other_proposer(self) -> Self:
        asks_phases = self.proposer == REFERENCE_PHASE
        if (
            None not in (self.reference_phases, self.proposer)
            and asks_phases != self.reference_phases
        ):
            raise ValueError("reference_phases and proposer exclude each other; leave one out")
        return self

    @classmethod
    def of(cls, /, **values: Any) -> Self:
        """Check filters.

        Raises
        ------
        UserError
            In one sentence, if one is of the wrong type, or unknown.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else ""
            if first["type"] == "extra_forbidden":
                known = ", ".join(cls.model_fields)
                raise UserError(f"{name!r} is no filter; there are {known}.") from error
            raise UserError(f"{name}{': ' if name else ''}{first_message(error)}.") from error

    def criteria(self) -> dict[str, Any]:
        """Write them as a query of MongoDB, what narrows most first; ``unique`` cannot be in it.

        MongoDB chooses an index by itself; SecantusDB takes that of the first part that has one.
        """
        found: dict[str, Any] = {}
        for name in (*NARROW, *RANGES, *EXACT):
            value = getattr(self, name)
            if name in RANGES:
                value = _between(*value) if value else None
            elif name == "stage" and value is not None:
                stages = [stage.value for stage in value]
                value = stages[0] if len(stages) == 1 else {"$in": stages}
            if value is not None:
                found[path_of(name)] = value
        if self.reference_phases is not None and self.proposer is None:
            found["origin.proposer"] = (
                REFERENCE_PHASE if self.reference_phases else {"$ne": REFERENCE_PHASE}
            )
        return found


def _between(low: float | None, high: float | None) -> dict[str, float] | None:
    """Write a range of which both ends belong to it; None: no bound."""
    if high is not None:
        # SecantusDB loses what is equal to $lte by an index that goes on with another field, and
        # looks at all without a value where there is no lower bound.
        low = -math.inf if low is None else low
        return {"$gte": low, "$lt": math.nextafter(high, math.inf)}
    return None if low is None else {"$gte": low}


NARROW = ("formula", "stage")
"""Filters that narrow most."""

EXACT = ("chemsys", "campaign", "proposer", "level_of_theory", "spacegroup", "is_novel")
"""Other filters that are values of a field."""

RANGES = (
    "pourbaix_min",
    "band_gap",
    "energy_above_hull",
    "energy_above_references",
    "nsites",
)
"""Filters that are ranges."""

SORTABLE = (*RANGES, "formula", "stage", "last_updated", "candidate_id")
"""What candidates can be sorted by."""

_POURBAIX = "pourbaix.minimum"

_PATHS = {
    "formula": "formula_pretty",
    "proposer": "origin.proposer",
    "pourbaix_min": _POURBAIX,
    "spacegroup": "symmetry.number",
    "is_novel": "novelty.is_novel",
}


def path_of(name: str) -> str:
    """Find the field of a candidate's document that a filter, or an order, is about."""
    return _PATHS.get(name, name)


FEW = {Stage.STABLE, Stage.POURBAIX_STABLE, Stage.PHOTOANODE, Stage.FAILED}
"""Stages in which a funnel leaves few candidates."""


def is_narrow(criteria: dict[str, Any]) -> bool:
    """Tell whether a query of :meth:`Filters.criteria` finds few by another field than energy."""
    stage = criteria.get("stage", Stage.GENERATED)
    stages = stage["$in"] if isinstance(stage, dict) else [stage]
    few = all(Stage(each) in FEW for each in stages)
    return few or any(path in criteria for path in ("formula_pretty", "band_gap", _POURBAIX))
