from __future__ import annotations

from math import radians, tan

import numpy as np
import pytest
from emmet.core.symmetry import SymmetryData
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from gan_htvs.structures.symmetry import (
    SYMPREC,
    primitive_cell,
    primitive_crystal,
    reduction_note,
    symmetrized_copies,
    symmetry_of,
)
from tests.helpers import rocksalt

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


def rutile(n_cells: int = 1) -> Structure:
    """Return rutile with 6 atoms per cell."""
    symbol, lattice, sites = CASES["rutile"]
    return primitive_crystal(symbol, lattice, sites) * (n_cells, 1, 1)


def distorted(structure: Structure, distance: float) -> Structure:
    """Return a structure of which every atom is moved, and the cell is sheared."""
    moved = structure.copy().perturb(distance, seed=0)
    shear = np.eye(3) + 0.002 * np.random.default_rng(0).normal(size=(3, 3))
    return Structure(moved.lattice.matrix @ shear, moved.species, moved.frac_coords)


@pytest.mark.parametrize("n_cells", [1, 2])
def test_symmetrized_copy_has_the_sites_and_cell_of_its_original(n_cells):
    original = distorted(rutile(n_cells), 0.03)
    assert symmetry_of(original, 0.01).symbol == "P1"
    (copy,) = symmetrized_copies(original, (0.1, 0.3))
    assert copy.tolerance == 0.3
    assert symmetry_of(copy.structure, 1e-4).symbol == "P4_2/mnm"
    assert copy.structure.species == original.species
    moves = copy.structure.frac_coords - original.frac_coords
    moves = (moves - moves.round() - (moves - moves.round()).mean(axis=0)) @ original.lattice.matrix
    assert copy.max_displacement == pytest.approx(np.linalg.norm(moves, axis=1).max())
    assert 0.01 < copy.max_displacement < 0.06
    deformation = np.linalg.solve(original.lattice.matrix, copy.structure.lattice.matrix)
    assert deformation == pytest.approx(np.eye(3), abs=0.01)


def test_copies_of_lower_symmetry_follow():
    """Rutile whose O atoms are moved by 0.15 A along c, and all atoms by 0.03 A."""
    polar = rutile()
    oxygen = [i for i, site in enumerate(polar) if site.specie.symbol == "O"]
    polar.translate_sites(oxygen, [0, 0, 0.15], frac_coords=False)
    copies = list(symmetrized_copies(distorted(polar, 0.03), (0.1, 0.2, 0.3)))
    groups = [symmetry_of(copy.structure, 1e-4).symbol for copy in copies]
    assert groups == ["P4_2/mnm", "P4_2nm"]
    assert copies[0].max_displacement > copies[1].max_displacement


def test_symmetric_structures_and_those_far_from_symmetry_have_no_copies():
    assert not list(symmetrized_copies(rutile(), (0.1, 0.3)))
    assert not list(symmetrized_copies(distorted(rutile(), 0.03), ()))
    assert not list(symmetrized_copies(distorted(rutile(), 0.4), (0.1,)))


@pytest.mark.parametrize("case", CASES)
def test_symmetry_agrees_with_emmet(case):
    crystal = primitive_crystal(*CASES[case])
    expected = SymmetryData.from_structure(crystal).model_dump(mode="json")
    assert symmetry_of(crystal, SYMPREC).model_dump() == expected


@pytest.mark.parametrize(("moved", "expected"), [(0.0, ""), (0.001, ""), (0.006, "0.003 A")])
def test_reduction_reports_how_far_it_averages_atoms(moved, expected):
    doubled = rocksalt() * (1, 1, 2)
    doubled.translate_sites([0], [moved, 0.0, 0.0], frac_coords=False)
    cell = primitive_cell(doubled).get_reduced_structure("niggli")
    assert len(cell) == 2
    note = reduction_note(doubled, cell)
    assert expected in note
    assert bool(note) == bool(expected)


def test_reduction_of_a_skewed_cell_is_no_displacement():
    crystal = Structure.from_spacegroup(
        "R-3",
        Lattice.hexagonal(4.95, 13.7),
        ["Mg", "Mn", "O"],
        [[0, 0, 0.36], [0, 0, 0.15], [0.31, 0.03, 0.25]],
    )
    skewed = crystal.make_supercell([[1, 0, 0], [3, 1, 0], [0, -2, 1]], in_place=False)
    assert reduction_note(skewed, primitive_cell(skewed).get_reduced_structure("niggli")) == ""
