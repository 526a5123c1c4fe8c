"""Cations and anions of a chemical system, and their formal charges."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np

from gan_htvs.core.errors import UserError
from gan_htvs.dataset.bond_valence import has_parameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from gan_htvs.core.chemical_system import ChemicalSystem, OxidationRanges


@dataclass(frozen=True)
class Ions:
    """A chemical system of cations and anions with known bond valences.

    Attributes
    ----------
    system, oxidation_states
        Elements, caps, and the average oxidation states that each element may have.
    needed_by, fix
        For the error message: what needs the ions, and the suggested fix.

    Raises
    ------
    UserError
        If the elements do not divide into cations and anions with known bond valences.
    """

    system: ChemicalSystem
    oxidation_states: OxidationRanges
    needed_by: str = "dataset.source 'prototypes'"
    fix: str = "set dataset.source to 'array' and give dataset.path"

    def __post_init__(self) -> None:
        elements = self.system.elements
        signed = len(self.cations) + len(self.anions)
        if not self.cations or not self.anions or signed < len(elements):
            raise UserError(
                f"{self.needed_by} needs cations and anions, but oxidation_states of "
                f"{self.system.chemsys} does not separate them; {self.fix}."
            )
        if unknown := [el for el in elements if not has_parameters(el)]:
            raise UserError(
                f"{self.needed_by} has no bond valences for {', '.join(unknown)}; {self.fix}."
            )

    @cached_property
    def cations(self) -> tuple[str, ...]:
        """Elements whose oxidation states are not negative, in row order."""
        return tuple(el for el in self.system.elements if self.oxidation_states[el][0] >= 0)

    @cached_property
    def anions(self) -> tuple[str, ...]:
        """Elements whose oxidation states are negative, in row order."""
        return tuple(el for el in self.system.elements if self.oxidation_states[el][1] < 0)

    def n_anions(self, counts: Sequence[int]) -> int:
        """Count the anions of a cell formula."""
        return sum(compress(counts, (el in self.anions for el in self.system.elements)))

    def formal_charges(self, counts: ArrayLike) -> NDArray[np.float64]:
        """Compute formal charges at the same fraction of the range of every element.

        For MgMn2O4 with 2 <= OS(Mn) <= 4 the result is Mn 3+.

        Parameters
        ----------
        counts
            (..., n_elements): charge-balanced cell formulas.

        Returns
        -------
        (..., n_elements): charge of each element.
        """
        ranges = np.array([self.oxidation_states[el] for el in self.system.elements], dtype=float)
        totals = np.asarray(counts) @ ranges
        lowest, reach = totals[..., 0], totals[..., 1] - totals[..., 0]
        fraction = -lowest / np.where(reach == 0, 1, reach)
        return ranges[:, 0] + fraction[..., None] * (ranges[:, 1] - ranges[:, 0])
