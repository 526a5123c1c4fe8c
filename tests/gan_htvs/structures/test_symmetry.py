from __future__ import annotations

from math import radians, tan

import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from gan_htvs.structures.symmetry import primitive_cell, primitive_crystal

CASES = {
    "hcp": ("P6_3/mmc", Lattice.hexagonal(3.21, 5.21), [("Mg", 1 / 3, 2 / 3, 0.25)]),
    "rutile": (
        "P4_2/mnm",
        Lattice.tetragonal(4.4, 2.87),
        [("Mn", 0, 0, 0), ("O", 0.305, 0.305, 0)],
    ),
    "monoclinic": (
        "C2/m",
        Lattice.monoclinic(10.3, 5.7, 4.9, 109),
        [("Mn", 0, 0, 0.5), ("O", 0.1, 0, 0.93)],
    ),
    "rhombohedral": (
        "R-3",
        Lattice.hexagonal(4.95, 13.7),
        [("Mg", 0, 0, 0.36), ("Mn", 0, 0, 0.15), ("O", 0.31, 0.03, 0.25)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_primitive_crystal_agrees_with_pymatgen(case):
    symbol, lattice, sites = CASES[case]
    crystal = primitive_crystal(symbol, lattice, sites)
    expected = Structure.from_spacegroup(
        symbol, lattice, [site[0] for site in sites], [site[1:] for site in sites]
    ).get_primitive_structure()
    assert len(crystal) == len(expected)
    assert StructureMatcher(scale=False).fit(crystal, expected)


@pytest.mark.parametrize(("angle", "n_atoms"), [(2.0, 10), (0.0, 5)])
def test_primitive_cell_keeps_small_distortions(angle, n_atoms):
    """SrTiO3 with octahedra that are turned by an angle, degrees."""
    x = 0.25 - tan(radians(angle)) / 4
    tilted = Structure.from_spacegroup(
        "I4/mcm",
        Lattice.tetragonal(3.905 * 2**0.5, 7.81),
        ["Sr", "Ti", "O", "O"],
        [[0, 0.5, 0.25], [0, 0, 0], [0, 0, 0.25], [x, x + 0.5, 0]],
    )
    assert len(primitive_cell(tilted)) == n_atoms


@pytest.mark.parametrize("group", ["Fd-3m", 227])
def test_spinel_in_origin_choice_one(group):
    spinel = primitive_crystal(
        group,
        Lattice.cubic(8.4),
        [("Mg", 0, 0, 0), ("Mn", 0.625, 0.625, 0.625), ("O", 0.3875, 0.3875, 0.3875)],
    )
    assert spinel.composition.formula == "Mg2 Mn4 O8"
    assert SpacegroupAnalyzer(spinel).get_space_group_number() == 227
    neighbors = {
        site.specie.symbol: len(spinel.get_neighbors(site, 2.3))
        for site in spinel
        if site.specie.symbol != "O"
    }
    assert neighbors == {"Mg": 4, "Mn": 6}
