"""Baselines: random cells, random symmetric crystals, and prototype substitution.

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

from gan_htvs.candidate import ProposerName
from gan_htvs.dataset.decoration import decorate_composition
from gan_htvs.dataset.ions import Ions
from gan_htvs.declash import VOLUME_PER_ATOM, pair_distances
from gan_htvs.proposers import Proposer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from gan_htvs.chemistry import ChemicalSystem, Counts, OxidationRanges

VOLUME_SPREAD = 0.2
"""Relative half width of the range of volumes per atom."""

LENGTHS = (0.6, 1.6)
"""Range of the edges before the cell is scaled to its volume; only their ratios count."""

ANGLES = (60.0, 120.0)
"""Range of the cell angles, degrees; every lattice has a cell within it."""

FLATTEST = 0.3
"""Smallest volume of the cell with unit edges; the corners of the range of angles are flat."""

N_SPACE_GROUPS = 230

ATTEMPTS = 20
"""Space groups tried for one crystal; most attempts succeed. One takes tenths of a second, but up
to 20 s where high symmetry must hold many atoms of unlike numbers."""

CLOSEST = 0.5
"""Share of the distances of the push that PyXtal must keep.

The push does the rest. It breaks the symmetry of a third of the crystals, whose atoms clash on
sites that symmetry holds fixed; 0.9 would prevent that, and cost PyXtal seconds per crystal.
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

LOWEST_ENERGY = 10
"""Orderings of lowest electrostatic energy of each prototype."""

_SAME_SITE = 0.01


_group = cache(Group)


class RandomCells(Proposer):
    """Proposes random cells with uniformly distributed atoms."""

    name = ProposerName.RANDOM
    volume_per_atom = VOLUME_PER_ATOM

    def raw_samples(self, counts: Counts, rng: np.random.Generator) -> Iterator[Structure]:
        """Yield structures without end."""
        species = [el for el, n in zip(self.system.elements, counts, strict=True) for _ in range(n)]
        while True:
            yield Structure(_cell(len(species), rng), species, rng.random((len(species), 3)))


def _cell(n_atoms: int, rng: np.random.Generator) -> Lattice:
    """Draw a cell of a sensible volume for so many atoms."""
    volume = n_atoms * VOLUME_PER_ATOM * rng.uniform(1 - VOLUME_SPREAD, 1 + VOLUME_SPREAD)
    lengths = rng.uniform(*LENGTHS, size=3)
    while True:
        angles = rng.uniform(*ANGLES, size=3)
        if Lattice.from_parameters(1, 1, 1, *angles).volume > FLATTEST:
            return Lattice.from_parameters(*lengths, *angles).scale(volume)


class SymmetricCrystals(Proposer):
    """Proposes random symmetric crystals."""

    name = ProposerName.SYMMETRIC
    volume_per_atom = VOLUME_PER_ATOM

    def raw_samples(self, counts: Counts, rng: np.random.Generator) -> Iterator[Structure]:
        """Yield crystals without end, or none if PyXtal finds none."""
        return symmetric_crystals(dict(zip(self.system.elements, counts, strict=True)), rng)


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


class Substitution(Proposer):
    """Proposes decorated prototypes, the most plausible one of every prototype first.

    The dataset source ``prototypes`` is made in the same way with fewer orderings, so a generator
    that learnt from it has seen the first of these structures.

    Parameters
    ----------
    system, oxidation_states
        Elements, caps, and the average oxidation states that each element may have.

    Raises
    ------
    UserError
        If the system is not one of cations and anions with known bond valences.
    """

    name = ProposerName.SUBSTITUTION
    volume_per_atom = None

    def __init__(self, system: ChemicalSystem, oxidation_states: OxidationRanges) -> None:
        needed_by = f"the proposer {self.name.value!r}"
        self.ions = Ions(system, oxidation_states, needed_by=needed_by, fix="leave it out")
        super().__init__(system)

    def raw_samples(self, counts: Counts, rng: np.random.Generator) -> Iterator[Structure]:
        """Yield the decorations in their order; nothing about them is random."""
        del rng
        for candidate in decorate_composition(self.ions, counts, lowest_energy=LOWEST_ENERGY):
            yield candidate.structure
