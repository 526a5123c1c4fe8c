"""Compositions of campaign.yaml, and the cells that a campaign searches for them.

A reduced formula such as ``LiMn2O4`` stands for cells of 7, 14, 21, ... atoms. A formula that is
not reduced, such as ``Li2Mn4O8``, stands for that cell.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from gan_htvs.core.settings import PositiveInt, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gan_htvs.core.chemical_system import ChemicalSystem, Counts

MAX_FORMULAS_DESCRIBED = 12
"""Largest number of formulas that :func:`describe_cells` lists one by one."""


class CompositionSettings(Settings):
    """A formula and, optionally, the numbers of atoms per cell.

    Examples
    --------
    >>> from gan_htvs.core.chemical_system import ChemicalSystem
    >>> system = ChemicalSystem(caps={"Li": 8, "Mn": 8, "O": 12})
    >>> CompositionSettings(formula="LiMn2O4").cells(system)
    ((1, 2, 4), (2, 4, 8), (3, 6, 12))
    >>> CompositionSettings(formula="Li2Mn4O8").cells(system)
    ((2, 4, 8),)
    >>> CompositionSettings(formula="LiMn2O4", atoms_per_cell=[7]).cells(system)
    ((1, 2, 4),)
    """

    formula: str = Field(description="a reduced formula, or the formula of one cell")
    atoms_per_cell: tuple[PositiveInt, ...] = Field(
        (), description="multiples of the atoms in the formula; empty: all within the caps"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_formula(cls, value: Any) -> Any:
        """Accept a formula alone."""
        if isinstance(value, str):
            return {"formula": value}
        if not isinstance(value, (dict, cls)):
            raise ValueError(  # noqa: TRY004 - pydantic reports it with the field
                f"{value!r} is neither a formula nor {{formula: ..., atoms_per_cell: ...}}; quote "
                "a formula that YAML reads as a number or truth value"
            )
        return value

    @field_validator("atoms_per_cell", mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        """Accept a number alone."""
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return (value,) if is_number else value

    def cells(self, system: ChemicalSystem, max_atoms: int | None = None) -> tuple[Counts, ...]:
        """Return the cells to search, smallest first unless ``atoms_per_cell`` has another order.

        Parameters
        ----------
        system
            Chemical system with the caps of a cell.
        max_atoms
            Largest number of atoms in cells of a reduced formula; cells that the setting names are
            not bounded by it.

        Raises
        ------
        ValueError
            If the formula or a cell exceeds the caps or ``max_atoms``, or does not fit the formula.
        """
        named = system.counts(self.formula)
        n_atoms = sum(named)
        if self.atoms_per_cell:
            return tuple(
                system.counts(self._multiple(system, named, n)) for n in self.atoms_per_cell
            )
        if gcd(*named) > 1:
            return (named,)
        cells = tuple(system.multiples(named, max_atoms))
        if not cells:
            raise ValueError(f"{self.formula} has {n_atoms} atoms, more than max_atoms {max_atoms}")
        return cells

    def _multiple(self, system: ChemicalSystem, named: Counts, n_atoms: int) -> str:
        """Return the formula of the cell with ``n_atoms`` atoms."""
        n_units, remainder = divmod(n_atoms, sum(named))
        if remainder:
            raise ValueError(
                f"atoms_per_cell {n_atoms} is not a multiple of the {sum(named)} atoms in "
                f"{self.formula}"
            )
        return system.formula(tuple(n_units * n for n in named))


def describe_cells(system: ChemicalSystem, cells: Iterable[Counts]) -> str:
    """Describe the cells that a campaign searches: ``LiMn2O4 with 7 and 14 atoms``.

    More than ``MAX_FORMULAS_DESCRIBED`` formulas are counted, not listed.

    Parameters
    ----------
    system
        Chemical system of the campaign.
    cells
        Atoms per cell of each composition, not empty.
    """
    sizes: dict[str, list[int]] = {}
    for counts in cells:
        reduced = tuple(n // gcd(*counts) for n in counts)
        sizes.setdefault(system.formula(reduced), []).append(sum(counts))
    if len(sizes) <= MAX_FORMULAS_DESCRIBED:
        return ", ".join(f"{formula} with {_listed(sorted(ns))}" for formula, ns in sizes.items())
    n_atoms = [n for ns in sizes.values() for n in ns]
    return f"{len(n_atoms)} of {len(sizes)} formulas, with {min(n_atoms)} to {max(n_atoms)} atoms"


def _listed(numbers: list[int]) -> str:
    """Format numbers of atoms: ``7, 14 and 21 atoms``."""
    *others, last = map(str, numbers)
    return f"{', '.join(others)} and {last} atoms" if others else f"{last} atoms"
