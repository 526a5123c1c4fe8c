"""Random crystals with symmetry.

PyXtal (Fredericks et al., Computer Physics Communications 2021, 261, 107810) places the orbits.
Nearly all known crystals are symmetric, and random positions almost never are.
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

from gan_htvs.structures.declash import pair_distances

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray


N_SPACE_GROUPS = 230


ATTEMPTS = 20
"""Space groups tried for one crystal; most attempts succeed. One takes tenths of a second, but up
to 20 s where high symmetry must hold many atoms of unlike numbers."""


CLOSEST = 0.5
"""Share of the declash distances that PyXtal must keep.

Overlap removal does the rest. It breaks the symmetry of a third of the crystals, whose atoms clash
on sites that symmetry holds fixed; 0.9 would prevent that, and cost PyXtal seconds per crystal.
"""


PRIMITIVE_VECTORS: dict[str, NDArray[np.float64]] = {
    "P": np.eye(3),
    "A": np.array([[2, 0, 0], [0, 1, 1], [0, -1, 1]]) / 2,
    "C": np.array([[1, 1, 0], [-1, 1, 0], [0, 0, 2]]) / 2,
    "I": np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]) / 2,
    "F": np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2,
    "R": np.array([[2, 1, 1], [-1, 1, 1], [-1, -2, 1]]) / 3,
}
"""Rows: primitive vectors in the conventional ones, by centring; obverse hexagonal axes."""


_SAME_SITE = 0.01

_group = cache(Group)


def symmetric_crystals(counts: Mapping[str, int], rng: np.random.Generator) -> Iterator[Structure]:
    """Draw crystals with random space groups among those that can hold the atoms.

    Parameters
    ----------
    counts
        Atoms of each element in the primitive cell.
    rng
        Decides everything.

    Yields
    ------
    Primitive cells with exactly ``counts`` atoms, grouped in the order of ``counts``, until PyXtal
    fails ``ATTEMPTS`` times for one. They may overlap.
    """
    groups = compatible_groups(tuple(counts.values()))
    failures = 0
    while failures < ATTEMPTS:
        number = groups[rng.integers(len(groups))]
        crystal = symmetric_crystal(number, counts, seed=int(rng.integers(2**32)))
        failures += 1
        if crystal is not None:
            failures = 0
            yield crystal


@cache
def compatible_groups(counts: tuple[int, ...]) -> tuple[int, ...]:
    """List the space groups with orbits that add up to these numbers in a primitive cell."""
    return tuple(
        number
        for number in range(1, N_SPACE_GROUPS + 1)
        if _group(number).check_compatible(np.array(counts) * _group(number).cellsize())[0]
    )


@cache
def _shortest_distances(elements: tuple[str, ...]) -> Tol_matrix:
    distances = pair_distances(elements)
    return Tol_matrix(*((*pair, CLOSEST * distance) for pair, distance in distances.items()))


def symmetric_crystal(number: int, counts: Mapping[str, int], *, seed: int) -> Structure | None:
    """Make one crystal, or None if PyXtal does not manage."""
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
                tm=_shortest_distances(tuple(counts)),
                conventional=False,
                max_count=1,
                random_state=seed,
            )
        except (PyXtalError, RuntimeError):
            return None
    conventional = crystal.to_pymatgen(resort=False)
    primitive = _primitive(conventional, centring=_group(number).symbol[0])
    if primitive.composition.get_el_amt_dict() != dict(counts):
        return None
    order = list(counts)
    return Structure.from_sites(sorted(primitive, key=lambda s: order.index(s.specie.symbol)))


def _primitive(structure: Structure, *, centring: str) -> Structure:
    """Reduce a conventional cell by its centring alone, which may leave it larger than can be."""
    if centring == "P":
        return structure
    lattice = Lattice(PRIMITIVE_VECTORS[centring] @ structure.lattice.matrix)
    primitive = Structure(
        lattice,
        structure.species,
        structure.cart_coords,
        coords_are_cartesian=True,
        to_unit_cell=True,
    )
    primitive.merge_sites(tol=_SAME_SITE, mode="delete")
    return primitive
