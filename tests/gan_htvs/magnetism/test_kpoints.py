from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.magnetism.initial_moments import magnetic_starts
from gan_htvs.magnetism.kpoints import kpoint_mesh
from tests.helpers import rocksalt_cell


def primitive(structure: Structure) -> Structure:
    return next(iter(magnetic_starts(structure).values()))


def test_orthorhombic_cell():
    box = Structure(Lattice.orthorhombic(3, 6, 12), ["Mg"], [[0, 0, 0]])
    assert kpoint_mesh(box, 10) == (4, 2, 1)


def test_mesh_keeps_the_symmetry_of_the_lattice():
    cell = primitive(
        Structure.from_spacegroup("Fmmm", Lattice.orthorhombic(3, 6, 12), ["Mg"], [[0, 0, 0]])
    )
    assert len(cell) == 1
    assert len(set(kpoint_mesh(cell, 10))) == 1


def test_acute_magnetic_cell_has_the_mesh_of_the_primitive_cell():
    # n * a >= 10 alone would give 2 x 2 x 2 for the antiferromagnetic cell, with an error of 0.2
    # eV/atom in GPAW.
    mno = rocksalt_cell("Mn", 4.445)
    fm, afm = magnetic_starts(mno).values()
    assert afm.lattice.alpha < 35
    assert kpoint_mesh(afm, 10) == kpoint_mesh(fm, 10) == (4, 4, 4)


@pytest.mark.parametrize(("a", "mesh"), [(4.945, (2, 2, 2)), (4.7, (3, 3, 3))])
def test_small_shortfall_of_the_period_is_accepted(a, mesh):
    ilmenite = Structure.from_spacegroup(
        "R-3",
        Lattice.hexagonal(a, 13.73),
        ["Mg", "Mn", "O"],
        [[0, 0, 0.36], [0, 0, 0.15], [0.317, 0.023, 0.245]],
    )
    assert kpoint_mesh(primitive(ilmenite), 10) == mesh
