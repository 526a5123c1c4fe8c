"""Prototypes of oxide-like crystals: cation and anion sites without elements.

There are two offline sources: the AFLOW encyclopedia of prototypes (Mehl et al., Comput. Mater.
Sci. 2017, 136, S1), as shipped with pymatgen, and textbook lattices that are missing there or can
host ordered vacancies.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Lattice, Structure

from gan_htvs.core.chemical_system import is_anion
from gan_htvs.structures.symmetry import primitive_crystal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

REFERENCE_BOND_LENGTH = 2.0
"""Mean nearest cation-anion distance to which prototypes are scaled before decoration, A."""

MAX_SITES = 48
"""Larger AFLOW cells are skipped; they exceed practical caps of the networks."""

CATION_SITE, ANION_SITE = "Na", "Cl"
"""Placeholder species of cation and anion sites."""


@dataclass(frozen=True)
class Prototype:
    """Cation and anion sites of a primitive cell.

    Attributes
    ----------
    name
        AFLOW label with the mineral, or the textbook name.
    structure
        Sites; the species are ``CATION_SITE`` and ``ANION_SITE``.
    vacancies
        Whether cation sites may stay empty.
    """

    name: str
    structure: Structure
    vacancies: bool = False

    @property
    def n_anions(self) -> int:
        """Anion sites per primitive cell."""
        return int(anion_sites(self.structure).sum())

    @property
    def n_cations(self) -> int:
        """Cation sites per primitive cell."""
        return len(self.structure) - self.n_anions


def anion_sites(structure: Structure) -> NDArray[np.bool_]:
    """Return which sites of a prototype or its supercell are anion sites; (n_sites,)."""
    return np.array([site.specie.symbol == ANION_SITE for site in structure])


@dataclass(frozen=True)
class _Textbook:
    """Asymmetric unit of a lattice: Wyckoff positions, cations and anions."""

    name: str
    space_group: int
    lattice: Lattice
    cations: Sequence[tuple[float, float, float]]
    anions: Sequence[tuple[float, float, float]]
    vacancies: bool = False


# Coordinates: Wyckoff, Crystal Structures (1963-1968), unless a paper is named. International
# number; origin choice 1, unique axis b.
_TEXTBOOK = (
    _Textbook("rocksalt", 225, Lattice.cubic(4.2), [(0, 0, 0)], [(0.5, 0.5, 0.5)], vacancies=True),
    _Textbook(
        # Ideal c/a: hexagonal close packing of anions, all octahedra available.
        "hcp octahedra",
        194,
        Lattice.hexagonal(2.9, 2.9 * np.sqrt(8 / 3)),
        [(0, 0, 0)],
        [(1 / 3, 2 / 3, 0.25)],
        vacancies=True,
    ),
    _Textbook("rutile", 136, Lattice.tetragonal(4.594, 2.959), [(0, 0, 0)], [(0.305, 0.305, 0)]),
    _Textbook(
        "spinel",
        227,
        Lattice.cubic(8.4),
        [(0, 0, 0), (5 / 8, 5 / 8, 5 / 8)],
        [(0.3875, 0.3875, 0.3875)],
        vacancies=True,
    ),
    _Textbook(
        # Post, Von Dreele & Buseck, Acta Cryst. B 1982, 38, 1056.
        "hollandite",
        87,
        Lattice.tetragonal(9.78, 2.865),
        [(0.351, 0.167, 0), (0, 0, 0)],
        [(0.153, 0.180, 0), (0.542, 0.167, 0)],
        vacancies=True,
    ),
    _Textbook(
        # Oswald & Wampetich, Helv. Chim. Acta 1967, 50, 2023.
        "Mn5O8",
        12,
        Lattice.monoclinic(10.347, 5.724, 4.852, 109.25),
        [(0, 0, 0.5), (0, 0.26, 0), (0.7187, 0, 0.6567)],
        [(0.104, 0, 0.926), (0.109, 0.5, 0.904), (0.115, 0.228, 0.394)],
    ),
    _Textbook(
        "pseudobrookite",
        63,
        Lattice.orthorhombic(3.73, 9.80, 9.98),
        [(0, 0.19, 0.25), (0, 0.135, 0.564)],
        [(0, 0.765, 0.25), (0, 0.048, 0.117), (0, 0.312, 0.064)],
    ),
    _Textbook(
        # Murakami et al., Science 2004, 304, 855.
        "post-perovskite",
        63,
        Lattice.orthorhombic(2.456, 8.042, 6.093),
        [(0, 0.253, 0.25), (0, 0, 0)],
        [(0, 0.923, 0.25), (0, 0.636, 0.435)],
    ),
    _Textbook(
        # Decker & Kasper, Acta Cryst. 1957, 10, 332; marokite has the same topology.
        "CaFe2O4",
        62,
        Lattice.orthorhombic(9.230, 3.024, 10.705),
        [(0.242, 0.75, 0.346), (0.433, 0.75, 0.612), (0.420, 0.75, 0.108)],
        [
            (0.204, 0.75, 0.161),
            (0.117, 0.75, 0.476),
            (0.523, 0.75, 0.784),
            (0.428, 0.75, 0.425),
        ],
        vacancies=True,
    ),
    _Textbook(
        # Enjalbert & Galy, Acta Cryst. C 1986, 42, 1467.
        "V2O5",
        59,
        Lattice.orthorhombic(11.512, 3.564, 4.368),
        [(-0.1488, 0, 0.8917)],
        [(-0.1457, 0, 0.531), (0.6811, 0, 0.003), (0, 0, 0.001)],
    ),
)


@cache
def prototypes() -> tuple[Prototype, ...]:
    """List the textbook lattices, then the oxide-like prototypes of AFLOW."""
    return (*_textbook_prototypes(), *_aflow_prototypes())


def _textbook_prototypes() -> Iterator[Prototype]:
    for entry in _TEXTBOOK:
        sites = [(CATION_SITE, *position) for position in entry.cations]
        sites += [(ANION_SITE, *position) for position in entry.anions]
        structure = primitive_crystal(entry.space_group, entry.lattice, sites)
        yield _prototype(entry.name, structure, {ANION_SITE}, vacancies=entry.vacancies)


def _aflow_prototypes() -> Iterator[Prototype]:
    # pymatgen.analysis.prototypes.AFLOW_PROTOTYPE_LIBRARY has the same data, but its import takes
    # 6 s because it parses the bibliography of every entry.
    path = files("pymatgen.analysis") / "prototypes" / "aflow_prototypes.json.gz"
    for entry in json.loads(gzip.decompress(path.read_bytes())):
        sites = entry["snl"]["sites"]
        symbols = {site["species"][0]["element"] for site in sites}
        anions = set(filter(is_anion, symbols))
        if anions and symbols - anions and len(sites) <= MAX_SITES:
            tags = entry["tags"]
            name = f"{tags['aflow']} {tags['mineral']}".strip()
            yield _prototype(name, Structure.from_dict(entry["snl"]), anions)


def _prototype(
    name: str, structure: Structure, anions: set[str], *, vacancies: bool = False
) -> Prototype:
    """Replace elements by site roles, reduce to the primitive cell and scale the volume."""
    roles = {
        el.symbol: ANION_SITE if el.symbol in anions else CATION_SITE for el in structure.elements
    }
    structure = structure.copy()
    structure.replace_species(roles)
    structure = structure.get_reduced_structure("niggli")
    is_anion = anion_sites(structure)
    bonds = structure.distance_matrix[np.ix_(~is_anion, is_anion)].min(axis=1).mean()
    structure.scale_lattice(structure.volume * (REFERENCE_BOND_LENGTH / bonds) ** 3)
    return Prototype(name, structure, vacancies)
