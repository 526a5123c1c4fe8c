"""Conversion of a structure to a scene for the viewer of Crystal Toolkit."""

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
"""Scene of dash_mp_components' ``CrystalToolkitScene``; lengths in A."""

FACE_TOLERANCE = 0.02
"""Atoms within this fractional distance of a face are also drawn at the opposite face."""
RADIUS_SCALE = 0.4
"""Drawn radius of an atom relative to its covalent radius."""
BOND_RADIUS = 0.08
"""Radius of a bond, A."""


def scene_of(structure: Structure) -> Scene:
    """Return a scene with atoms (and images at faces), bonds by VESTA's cutoffs, and the cell."""
    inside = Structure.from_sites(structure, to_unit_cell=True)
    symbols = [site.specie.symbol for site in inside]
    graph = StructureGraph.from_local_env_strategy(inside, _bonds(), weights=False)
    atoms: dict[str, list[list[float]]] = defaultdict(list)
    bonds: dict[str, list[list[list[float]]]] = defaultdict(list)
    for i, site in enumerate(inside):
        neighbors = [
            connected.site.coords - site.coords for connected in graph.get_connected_sites(i)
        ]
        for image in _images(site.frac_coords):
            position = inside.lattice.get_cartesian_coords(site.frac_coords + image)
            atoms[symbols[i]].append(position.tolist())
            bonds[symbols[i]] += [
                [position.tolist(), (position + vector / 2).tolist()] for vector in neighbors
            ]
    origin = (-inside.lattice.get_cartesian_coords([0.5, 0.5, 0.5])).tolist()
    atoms_drawn = [
        {
            "type": "spheres",
            "positions": positions,
            "color": color_of(symbol),
            "radius": RADIUS_SCALE * float(covalent_radii[atomic_numbers[symbol]]),
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
    """Return the Jmol color of an element as ``#rrggbb``."""
    return str(to_hex(jmol_colors[atomic_numbers[symbol]]))


def _images(coordinates: np.ndarray) -> list[tuple[int, ...]]:
    """Return the lattice translations at which an atom is drawn."""
    axes = [
        (0, 1) if x < FACE_TOLERANCE else (0, -1) if x > 1 - FACE_TOLERANCE else (0,)
        for x in coordinates
    ]
    return list(product(*axes))


def _group(name: str, contents: list[Scene], origin: list[float]) -> Scene:
    return {"name": name, "contents": contents, "origin": origin, "visible": True}


def _edges(matrix: np.ndarray) -> Scene:
    corners = np.array(list(product((0, 1), repeat=3)))
    starts = [(corner, axis) for axis in np.eye(3) for corner in corners if not corner @ axis]
    ends = [end @ matrix for corner, axis in starts for end in (corner, corner + axis)]
    return {"type": "lines", "positions": np.array(ends).tolist(), "color": "#444444"}
