"""Assemble polyanions in samples of a generator.

A network places C and O to about 0.5 A, which breaks CO3(2-). Every center takes its nearest
anions, which are moved to regular triangles and tetrahedra with the bond length that the bond
valence requires.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Element, Structure
from pymatgen.util.coord import pbc_shortest_vectors
from scipy.optimize import linear_sum_assignment

from gan_htvs.core.chemical_system import find_anions
from gan_htvs.dataset.ions import SOFTNESS, Ions, bond_length
from gan_htvs.dataset.polyanions import center_elements

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from numpy.typing import NDArray

    from gan_htvs.core.chemical_system import ChemicalSystem, OxidationRanges

COORDINATION = {2: 3, 3: 4, 4: 4}
"""Anions around a center by its period, as in CO3(2-), SO4(2-) and SeO4(2-)."""

_STEPS = 200
"""Steps of the repulsion that makes polyhedra regular."""
_STEP = 0.1


class Assembly:
    """Assembles the polyanions of a chemical system.

    Attributes
    ----------
    centers
        Centers with their numbers of anions.
    anions
        Chalcogens, which centers bind before other anions.
    """

    def __init__(self, ions: Ions, centers: Mapping[str, int], anions: Sequence[str]) -> None:
        self.ions = ions
        self.centers = dict(centers)
        self.anions = tuple(anions)

    @classmethod
    def of(cls, system: ChemicalSystem, oxidation_states: OxidationRanges) -> Self | None:
        """Return the assembly of a chemical system; None if it has no polyanions.

        Raises
        ------
        UserError
            If it has polyanions, and its other elements are not cations or anions with known bond
            valences.
        """
        if not set(system.elements) <= set(oxidation_states):
            return None
        found = find_anions(system.elements, oxidation_states)
        anions = [s for s in system.elements if s in found and Element(s).is_chalcogen]
        cations = [s for s in system.elements if oxidation_states[s][0] > 0]
        centers = {
            symbol: COORDINATION[Element(symbol).row]
            for symbol in center_elements(cations)
            if Element(symbol).row in COORDINATION
        }
        if not centers or not anions:
            return None
        fix = "give every element oxidation states of one sign, or remove the proposer"
        return cls(Ions(system, oxidation_states, "the proposer 'gan'", fix), centers, anions)

    def assemble(self, structure: Structure) -> Structure:
        """Return a structure with regular polyanions.

        It is unchanged if it has too few anions for separate polyanions, as in CaSiO3.
        """
        symbols = [site.specie.symbol for site in structure]
        anions = np.flatnonzero([symbol in self.anions for symbol in symbols])
        centers = [
            i for i, symbol in enumerate(symbols) for _ in range(self.centers.get(symbol, 0))
        ]
        if not centers or len(centers) > len(anions):
            return structure
        system = self.ions.system
        of_elements = self.ions.formal_charges(system.counts(structure)).tolist()
        charges = dict(zip(system.elements, of_elements, strict=True))
        lattice, frac_coords = structure.lattice, structure.frac_coords
        # One row for each anion that a center binds.
        vectors = np.asarray(
            pbc_shortest_vectors(lattice, frac_coords[centers], frac_coords[anions])
        )
        rows, columns = linear_sum_assignment((vectors**2).sum(axis=2))
        moved = frac_coords.copy()
        for center in dict.fromkeys(centers):
            bonds = np.array(centers)[rows] == center
            directions = _regular(vectors[rows[bonds], columns[bonds]])
            number = self.centers[symbols[center]]
            shortening = SOFTNESS * np.log(charges[symbols[center]] / number)
            for direction, anion in zip(directions, anions[columns[bonds]], strict=True):
                length = bond_length(symbols[center], symbols[anion]) - shortening
                bond = lattice.get_fractional_coords(length * direction)
                moved[anion] = frac_coords[center] + bond
        return Structure(lattice, structure.species, moved, to_unit_cell=True)


def _regular(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return unit vectors (k, 3) of a regular polyhedron near the directions of ``vectors``.

    Points on a sphere repel each other (Thomson's problem): three become a triangle, four a
    tetrahedron.
    """
    # Coincident and vanishing vectors have no direction.
    jitter = 1e-2 * np.random.default_rng(0).standard_normal(vectors.shape)
    points = vectors + jitter
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    for _ in range(_STEPS):
        between = points[:, None] - points
        distances = np.linalg.norm(between, axis=2) + np.eye(len(points))
        force = (between / distances[..., None] ** 3).sum(axis=1)
        force /= np.maximum(np.linalg.norm(force, axis=1, keepdims=True), 1)
        points += _STEP * force
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points
