"""Random crystals of random space groups.

PyXtal (Fredericks et al., Computer Physics Communications 2021, 261, 107810) occupies the Wyckoff
positions. Nearly all known crystals are symmetric, and random positions almost never are.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Lattice, Structure
from pyxtal import pyxtal
from pyxtal.msg import Error as PyXtalError
from pyxtal.symmetry import Group
from pyxtal.tolerance import Tol_matrix

from gan_htvs.structures.geometry_limits import CHEMISTRY, GeometryLimits
from gan_htvs.structures.symmetry import SAME_SITE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray


N_SPACE_GROUPS = 230


ATTEMPTS = 20
"""Number of space groups that are tried for one crystal; most attempts succeed. An attempt takes
tenths of a second, but up to 20 s for many atoms of unequal numbers in a group of high symmetry."""


PYXTAL_DISTANCE_FACTOR = 0.5
"""Shortest distance in PyXtal as a fraction of the distances of the overlap removal.

Overlap removal separates closer atoms. It breaks the symmetry of a third of the crystals, whose
atoms overlap on sites that are fixed by symmetry; 0.9 would prevent that, but PyXtal would take
seconds per crystal.
"""


PRIMITIVE_VECTORS: dict[str, NDArray[np.float64]] = {
    "P": np.eye(3),
    "A": np.array([[2, 0, 0], [0, 1, 1], [0, -1, 1]]) / 2,
    "C": np.array([[1, 1, 0], [-1, 1, 0], [0, 0, 2]]) / 2,
    "I": np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]) / 2,
    "F": np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2,
    "R": np.array([[2, 1, 1], [-1, 1, 1], [-1, -2, 1]]) / 3,
}
"""Primitive vectors (rows) in the conventional basis, by centering; obverse hexagonal axes."""


_group = cache(Group)


def symmetric_crystals(
    counts: Mapping[str, int], rng: np.random.Generator, limits: GeometryLimits = CHEMISTRY
) -> Iterator[Structure]:
    """Generate crystals of random space groups that are compatible with the composition.

    Parameters
    ----------
    counts
        Number of atoms of each element in the primitive cell.
    rng
        Random number generator.
    limits
        Limits whose overlap distances PyXtal respects in part.

    Yields
    ------
    Primitive cells with exactly ``counts`` atoms, grouped in the order of ``counts``, until
    ``ATTEMPTS`` consecutive attempts fail. Atoms may overlap.
    """
    groups = compatible_groups(tuple(counts.values()))
    tolerances = shortest_distances(counts, limits)
    failures = 0
    while failures < ATTEMPTS:
        number = groups[rng.integers(len(groups))]
        crystal = symmetric_crystal(number, counts, tolerances, seed=int(rng.integers(2**32)))
        failures += 1
        if crystal is not None:
            failures = 0
            yield crystal


@cache
def compatible_groups(counts: tuple[int, ...]) -> tuple[int, ...]:
    """List the space groups that can have these numbers of atoms in a primitive cell."""
    return tuple(
        number
        for number in range(1, N_SPACE_GROUPS + 1)
        if _group(number).check_compatible(np.array(counts) * _group(number).cellsize())[0]
    )


def shortest_distances(elements: Iterable[str], limits: GeometryLimits = CHEMISTRY) -> Tol_matrix:
    """Return the shortest distances in crystals of PyXtal, below those of the overlap removal."""
    distances = limits.overlaps_below(elements)
    return Tol_matrix(
        *((*pair, PYXTAL_DISTANCE_FACTOR * distance) for pair, distance in distances.items())
    )


def symmetric_crystal(
    number: int, counts: Mapping[str, int], tolerances: Tol_matrix, *, seed: int
) -> Structure | None:
    """Generate one crystal; None if PyXtal fails."""
    crystal = pyxtal()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            crystal.from_random(
                dim=3,
                group=_group(number),
                species=list(counts),
                numIons=list(counts.values()),
                factor=1.0,
                tm=tolerances,
                conventional=False,
                max_count=1,
                random_state=seed,
            )
        except (PyXtalError, RuntimeError):
            return None
    conventional = crystal.to_pymatgen(resort=False)
    primitive = _primitive(conventional, centering=_group(number).symbol[0])
    if primitive.composition.get_el_amt_dict() != dict(counts):
        return None
    order = list(counts)
    return Structure.from_sites(sorted(primitive, key=lambda s: order.index(s.specie.symbol)))


def _primitive(structure: Structure, *, centering: str) -> Structure:
    """Reduce a conventional cell by its centering; the result may have a smaller primitive cell."""
    if centering == "P":
        return structure
    lattice = Lattice(PRIMITIVE_VECTORS[centering] @ structure.lattice.matrix)
    primitive = Structure(
        lattice,
        structure.species,
        structure.cart_coords,
        coords_are_cartesian=True,
        to_unit_cell=True,
    )
    primitive.merge_sites(tol=SAME_SITE, mode="delete")
    return primitive
