"""Prototypes of oxide-like crystals: cation and anion sites without elements.

There are two offline sources: the AFLOW encyclopedia of prototypes (Mehl et al., Comput. Mater.
Sci. 2017, 136, S1), as shipped with pymatgen, and textbook lattices that are missing there or can
host ordered vacancies.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml
from pymatgen.core import Lattice, Structure

from gan_htvs.core.chemical_system import find_anions
from gan_htvs.structures.symmetry import primitive_crystal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from numpy.typing import NDArray

LATTICES = Path(__file__).with_name("lattices.yaml")
"""Textbook lattices."""

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
    polyanions
        Whether it is meant for crystals with polyanions.
    """

    name: str
    structure: Structure
    vacancies: bool = False
    polyanions: bool = False

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


@cache
def prototypes() -> tuple[Prototype, ...]:
    """List the textbook lattices, then the oxide-like prototypes of AFLOW."""
    return (*_textbook_prototypes(), *_aflow_prototypes())


def _textbook_prototypes() -> Iterator[Prototype]:
    for entry in yaml.safe_load(LATTICES.read_text(encoding="utf-8")):
        ((crystal_system, parameters),) = entry["lattice"].items()
        lattice = getattr(Lattice, crystal_system)(*parameters)
        sites = [(CATION_SITE, *position) for position in entry["cations"]]
        sites += [(ANION_SITE, *position) for position in entry["anions"]]
        structure = primitive_crystal(entry["space_group"], lattice, sites)
        prototype = _prototype(entry["name"], structure, {ANION_SITE})
        roles = {role: entry.get(role, False) for role in ("vacancies", "polyanions")}
        yield replace(prototype, **roles)


def _aflow_prototypes() -> Iterator[Prototype]:
    # pymatgen.analysis.prototypes.AFLOW_PROTOTYPE_LIBRARY has the same data, but its import takes
    # 6 s because it parses the bibliography of every entry.
    path = files("pymatgen.analysis") / "prototypes" / "aflow_prototypes.json.gz"
    for entry in json.loads(gzip.decompress(path.read_bytes())):
        sites = entry["snl"]["sites"]
        symbols = {site["species"][0]["element"] for site in sites}
        anions = find_anions(symbols)
        if anions and symbols - anions and len(sites) <= MAX_SITES:
            tags = entry["tags"]
            name = f"{tags['aflow']} {tags['mineral']}".strip()
            yield _prototype(name, Structure.from_dict(entry["snl"]), anions)


def _prototype(name: str, structure: Structure, anions: Collection[str]) -> Prototype:
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
    return Prototype(name, structure)
