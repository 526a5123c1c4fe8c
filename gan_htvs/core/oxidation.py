"""Formal oxidation states of 3d ions from their collinear moments.

A high-spin ion with n unpaired electrons has a moment slightly below n Bohr magnetons, and less
in covalent bonds. In PBE+U the moments of each oxidation state of an element fall into a separate
range (Reed & Ceder, Chem. Rev. 104, 4513 (2004)). The same holds for CHGNet, which was trained on
these moments (Deng et al., Nat. Mach. Intell. 5, 1031 (2023)).
"""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ConfigDict, Field
from pymatgen.core import Element

from gan_htvs.core.chemical_system import find_anions
from gan_htvs.core.document import Document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure

MOMENTS: dict[str, dict[int, tuple[float, float]]] = {
    "V": {5: (0, 0.4), 4: (0.7, 1.3), 3: (1.6, 2.2), 2: (2.4, 2.9)},
    "Cr": {4: (1.8, 2.6), 3: (2.7, 3.2)},
    "Mn": {4: (2.5, 3.5), 3: (3.5, 4.2), 2: (4.2, 5)},
    "Fe": {3: (4.15, 4.6), 2: (3.5, 3.95)},
    "Co": {3: (0, 0.6), 2: (2.5, 2.9)},
    "Ni": {3: (0.8, 1.5), 2: (1.6, 2)},
}
"""Range of the absolute moment of each state, Bohr magnetons, upper end excluded.

The ranges of Mn are the high-spin ranges of ``chgnet.utils.solve_charge_by_mag``; the others
enclose the moments in docs/magnetism.md. Co3+ and Ni3+ are low-spin. States with the same moment
as another state are excluded: high-spin Co3+, low-spin Fe, Fe4+, Ni4+, low-spin Mn.
"""

MIXED_VALENT = frozenset({"Ti", "Cu"})
"""Elements without ranges of moments that have further states in oxides besides their only common
one. CHGNet predicts no moment for Ti3+."""

PEROXIDE_BOND = 1.64
"""Largest O-O bond length, A: 1.49 A in peroxides plus a tenth. Bonded oxygen is not O2-."""


class OxidationStates(Document):
    """Formal oxidation states of the sites of one structure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    states: tuple[float | None, ...] = Field(
        description="state of each site; None if the moment matches no state of the element"
    )
    is_neutral: bool | None = Field(
        description="whether the states add up to zero; None if one of them is unknown"
    )
    average: dict[str, float] = Field(
        description="mean state of each element whose states are all known"
    )


def oxidation_states(structure: Structure, magmoms: Sequence[float]) -> OxidationStates:
    """Assign a formal oxidation state to each site independently.

    A 3d ion gets the state of its range of moments, and any other element its only common state
    (pymatgen's ``common_oxidation_states``). Oxygen bonded to oxygen gets none, and so do all sites
    of a structure without anions, such as a metal. The states are not adjusted to add up to zero,
    so ``is_neutral`` is a check on the moments.

    Parameters
    ----------
    structure
        Ordered crystal.
    magmoms
        Collinear moment of each site, Bohr magnetons; the sign is ignored.

    Raises
    ------
    ValueError
        If ``magmoms`` does not have one number per site.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> mno = Structure.from_spacegroup(
    ...     "Fm-3m", Lattice.cubic(4.445), ["Mn", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ... )
    >>> oxidation_states(mno, [4.6, -4.6, 4.6, -4.6, 0, 0, 0, 0]).average
    {'Mn': 2.0, 'O': -2.0}
    """
    if len(magmoms) != len(structure):
        raise ValueError(f"{len(magmoms)=} differs from {len(structure)=}")
    elements = [Element(site.specie.symbol) for site in structure]
    states: list[float | None] = [None] * len(structure)
    if find_anions(element.symbol for element in elements):
        states = [_state(*pair) for pair in zip(elements, magmoms, strict=True)]
        for site in bonded_oxygen(structure):
            states[site] = None
    average = {}
    for element in dict.fromkeys(elements):
        of_element = [states[i] for i, other in enumerate(elements) if other == element]
        known = [state for state in of_element if state is not None]
        if len(known) == len(of_element):
            average[element.symbol] = fmean(known)
    return OxidationStates(
        states=tuple(states),
        is_neutral=None if None in states else sum(filter(None, states)) == 0,
        average=average,
    )


def _state(element: Element, moment: float) -> float | None:
    if element.symbol in MOMENTS:
        for state, (low, high) in MOMENTS[element.symbol].items():
            if low <= abs(moment) < high:
                return state
        return None
    common = element.common_oxidation_states
    return common[0] if len(common) == 1 and element.symbol not in MIXED_VALENT else None


def bonded_oxygen(structure: Structure) -> set[int]:
    """Find the oxygen atoms of peroxide, superoxide and O2."""
    oxygen = np.array([i for i, site in enumerate(structure) if site.specie.symbol == "O"], int)
    # Nearest images only: in a collapsed cell a list of all neighbors would be too long.
    distances = structure.distance_matrix[np.ix_(oxygen, oxygen)]
    np.fill_diagonal(distances, np.inf)
    return set(oxygen[(distances < PEROXIDE_BOND).any(axis=1)].tolist())
