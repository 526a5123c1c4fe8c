"""Chemical systems: elements, largest number of atoms of each, charge-balanced compositions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, product
from typing import Annotated, TypeAlias

from pydantic import Field, field_validator
from pymatgen.core import Composition, Element, Structure

from gan_htvs.core.settings import Settings

Counts: TypeAlias = tuple[int, ...]
"""Atoms per cell of each element, in the order of ``ChemicalSystem.elements``."""

OxidationRanges: TypeAlias = Mapping[str, tuple[float, float]]
"""Lowest and highest average oxidation state allowed for each element."""


_ELECTRONEGATIVE = 2.5
"""Pauling electronegativity: S (2.58), Se (2.55), I (2.66) and lighter ones are above, Te below."""


def format_caps(caps: Iterable[tuple[str, int]]) -> str:
    """Format caps for messages: ``Mg 8, Mn 8, O 12``."""
    return ", ".join(f"{symbol} {cap}" for symbol, cap in caps)


def range_pairs(oxidation_states: Mapping[str, Iterable[float]]) -> dict[str, tuple[float, float]]:
    """Convert ranges of oxidation states, which databases return as lists, to pairs."""
    return {el: (float(low), float(high)) for el, (low, high) in oxidation_states.items()}


def find_anions(
    elements: Iterable[str], oxidation_states: OxidationRanges | None = None
) -> frozenset[str]:
    """Return the anions of a chemical system.

    Parameters
    ----------
    elements
        Symbols of the elements.
    oxidation_states
        If the states of all elements are given, anions are the elements with negative ones only.
        Otherwise they are the chalcogens, the halogens and nitrogen. Heavy ones that are
        metalloids or metals, such as Te, are cations beside lighter ones, as in tellurites.
    """
    symbols = frozenset(elements)
    if oxidation_states and symbols <= set(oxidation_states):
        return frozenset(symbol for symbol in symbols if oxidation_states[symbol][1] < 0)
    anions = frozenset(filter(_can_be_anion, symbols))
    light = frozenset(symbol for symbol in anions if Element(symbol).X >= _ELECTRONEGATIVE)
    return light or anions


def _can_be_anion(symbol: str) -> bool:
    element = Element(symbol)
    return bool(element.is_chalcogen or element.is_halogen or symbol == "N")


class ChemicalSystem(Settings):
    """Ordered set of elements with the largest number of atoms of each in one cell.

    The order is that of the row blocks in the point-cloud representation.

    Examples
    --------
    >>> system = ChemicalSystem(caps={"Mg": 8, "Mn": 8, "O": 12})
    >>> system.counts("Mg2Mn4O8")
    (2, 4, 8)
    >>> system.formula((2, 4, 8))
    'Mg2Mn4O8'
    """

    caps: dict[str, Annotated[int, Field(ge=1)]] = Field(
        min_length=1, description="largest number of atoms of each element in one cell"
    )

    @field_validator("caps")
    @classmethod
    def _known_elements(cls, caps: dict[str, int]) -> dict[str, int]:
        for symbol in caps:
            if not Element.is_valid_symbol(symbol):
                raise ValueError(f"{symbol!r} is not a chemical element")
        return caps

    @property
    def elements(self) -> tuple[str, ...]:
        """Element symbols, in row order."""
        return tuple(self.caps)

    @property
    def max_counts(self) -> Counts:
        """Largest number of atoms of each element, in row order."""
        return tuple(self.caps.values())

    @property
    def max_atoms(self) -> int:
        """Number of atom rows: the sum of the caps."""
        return sum(self.max_counts)

    @property
    def chemsys(self) -> str:
        """Alphabetical, dash-separated elements, as the Materials Project writes it."""
        return "-".join(sorted(self.elements))

    @property
    def blocks(self) -> tuple[slice, ...]:
        """Atom-row slice of each element, counted from the first atom row."""
        ends = tuple(accumulate(self.max_counts))
        return tuple(slice(end - cap, end) for end, cap in zip(ends, self.max_counts, strict=True))

    def formula(self, counts: Counts) -> str:
        """Return the cell formula of ``counts``, not reduced."""
        return "".join(
            f"{symbol}{n if n > 1 else ''}"
            for symbol, n in zip(self.elements, counts, strict=True)
            if n
        )

    def counts(self, cell: str | Composition | Structure) -> Counts:
        """Count the atoms of each element in a cell formula or structure.

        Raises
        ------
        ValueError
            If the cell has an element outside the system, lacks an element of the system, has
            fractional counts, or exceeds a cap.
        """
        composition = cell.composition if isinstance(cell, Structure) else Composition(cell)
        formula = composition.formula.replace(" ", "")
        amounts = composition.get_el_amt_dict()
        if foreign := sorted(set(amounts) - set(self.elements)):
            raise ValueError(f"{formula} has {', '.join(foreign)}, outside {self.chemsys}")
        counts = []
        for symbol, cap in self.caps.items():
            amount = amounts.get(symbol, 0)
            if amount != int(amount):
                raise ValueError(f"{formula} has a fractional number of {symbol} atoms")
            if not 1 <= amount <= cap:
                raise ValueError(
                    f"{formula} has {amount:g} {symbol}, but must have 1 to {cap} "
                    f"(chemical_system.caps.{symbol})"
                )
            counts.append(int(amount))
        return tuple(counts)

    def multiples(self, counts: Counts, max_atoms: int | None = None) -> Iterator[Counts]:
        """Yield ``counts`` and its multiples within the caps and ``max_atoms``, smallest first."""
        n_units = min(cap // n for cap, n in zip(self.max_counts, counts, strict=True))
        if max_atoms is not None:
            n_units = min(n_units, max_atoms // sum(counts))
        for factor in range(1, n_units + 1):
            yield tuple(factor * n for n in counts)

    def compositions(
        self, oxidation_states: OxidationRanges, max_atoms: int | None = None
    ) -> Iterator[Counts]:
        """Enumerate the compositions that can be charge-neutral, smallest counts first.

        Mg-Mn-O with caps 8, 8, 12 and 2 <= OS(Mn) <= 4 has 172 of them.
        """
        for counts in product(*(range(1, cap + 1) for cap in self.max_counts)):
            if max_atoms is not None and sum(counts) > max_atoms:
                continue
            if self.is_charge_balanced(counts, oxidation_states):
                yield counts

    def is_charge_balanced(self, counts: Counts, oxidation_states: OxidationRanges) -> bool:
        """Return whether average oxidation states within their ranges can make the cell neutral."""
        ranges = [oxidation_states[symbol] for symbol in self.elements]
        lowest = sum(n * low for n, (low, _) in zip(counts, ranges, strict=True))
        highest = sum(n * high for n, (_, high) in zip(counts, ranges, strict=True))
        return lowest <= 0 <= highest
