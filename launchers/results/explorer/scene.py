"""A structure as the scene that the viewer of Crystal Toolkit draws."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from ase.data.colors import jmol_colors
from matplotlib.colors import to_hex
from pymatgen.analysis.graphs import StructureGraph
from pymatgen.analysis.local_env import CutOffDictNN
from pymatgen.core import Structure

Scene = dict[str, Any]
"""In the format of dash_mp_components' ``CrystalToolkitScene``, lengths in A."""

AT_A_FACE = 0.02
"""Atoms this near to a face, in fractional coordinates, are drawn at the opposite one, too."""
OF_COVALENT_RADIUS, BOND_RADIUS = 0.4, 0.08


def scene_of(structure: Structure) -> Scene:
    """Draw atoms, those at faces at all of them, bonds by VESTA's distances, and the cell."""
    inside = Structure.from_sites(structure, to_unit_cell=True)
    symbols = [site.specie.symbol for site in inside]
    graph = StructureGraph.from_local_env_strategy(inside, _bonds(), weights=False)
    atoms: dict[str, list[list[float]]] = defaultdict(list)
    bonds: dict[str, list[list[list[float]]]] = defaultdict(list)
    for i, site in enumerate(inside):
        neighbors = [each.site.coords - site.coords for each in graph.get_connected_sites(i)]
        for image in _images(site.frac_coords):
            here = inside.lattice.get_cartesian_coords(site.frac_coords + image)
            atoms[symbols[i]].append(here.tolist())
            bonds[symbols[i]] += [[here.tolist(), (here + way / 2).tolist()] for way in neighbors]
    origin = (-inside.lattice.get_cartesian_coords([0.5, 0.5, 0.5])).tolist()
    atoms_drawn = [
        {
            "type": "spheres",
            "positions": positions,
            "color": color_of(symbol),
            "radius": OF_COVALENT_RADIUS * float(covalent_radii[atomic_numbers[symbol]]),
            "tooltip": symbol,
            "clickable": True,
        }
        for symbol, positions in atoms.items()
    ]
    bonds_drawn = [
        {
            "type": "cylinders",
            "positionPairs": pairs,
            "color": color_of(symbol),
            "radius": BOND_RADIUS,
        }
        for symbol, pairs in bonds.items()
    ]
    parts = {
        "atoms": atoms_drawn,
        "bonds": bonds_drawn,
        "unit_cell": [_edges(inside.lattice.matrix)],
    }
    groups = [_group(name, contents, origin) for name, contents in parts.items()]
    return _group("structure", groups, origin)


@cache
def _bonds() -> CutOffDictNN:
    return CutOffDictNN.from_preset("vesta_2019")


def color_of(symbol: str) -> str:
    """Color of an element, Jmol's, as ``#rrggbb``."""
    return str(to_hex(jmol_colors[atomic_numbers[symbol]]))


def _images(coordinates: np.ndarray) -> list[tuple[int, ...]]:
    """Find the cells at whose faces an atom is seen."""
    axes = [
        (0, 1) if each < AT_A_FACE else (0, -1) if each > 1 - AT_A_FACE else (0,)
        for each in coordinates
    ]
    return list(product(*axes))


def _group(name: str, contents: list[Scene], origin: list[float]) -> Scene:
    return {"name": name, "contents": contents, "origin": origin, "visible": True}


def _edges(matrix: np.ndarray) -> Scene:
    corners = np.array(list(product((0, 1), repeat=3)))
    starts = [(corner, axis) for axis in np.eye(3) for corner in corners if not corner @ axis]
    ends = [end @ matrix for corner, axis in starts for end in (corner, corner + axis)]
    return {"type": "lines", "positions": np.array(ends).tolist(), "color": "#444444"}
