from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.magnetism.initial_moments import magnetic_starts
from gan_htvs.magnetism.kpoints import kpoint_mesh


def primitive(structure: Structure) -> Structure:
    return magnetic_starts(structure)[0].structure


def test_in_a_box_numbers_times_lengths_reach_the_length():
    box = Structure(Lattice.orthorhombic(3, 6, 12), ["Mg"], [[0, 0, 0]])
    assert kpoint_mesh(box, 10) == (4, 2, 1)


def test_the_mesh_keeps_the_symmetry_of_a_lattice_with_mixed_axes():
    cell = primitive(
        Structure.from_spacegroup("Fmmm", Lattice.orthorhombic(3, 6, 12), ["Mg"], [[0, 0, 0]])
    )
    assert len(cell) == 1
    assert len(set(kpoint_mesh(cell, 10))) == 1


def test_an_acute_cell_gets_the_mesh_of_its_parent():
    # n * a >= 10 alone would take 2 x 2 x 2 for the cell of the antiferromagnetic order, whose
    # energy by GPAW is then wrong by 0.2 eV/atom.
    mno = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.445), ["Mn", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    fm, afm = (start.structure for start in magnetic_starts(mno))
    assert afm.lattice.alpha < 35
    assert kpoint_mesh(afm, 10) == kpoint_mesh(fm, 10) == (4, 4, 4)


@pytest.mark.parametrize(("a", "mesh"), [(4.945, (2, 2, 2)), (4.7, (3, 3, 3))])
def test_a_shortfall_of_a_hundredth_does_not_make_a_hybrid_dearer(a, mesh):
    ilmenite = Structure.from_spacegroup(
        "R-3",
        Lattice.hexagonal(a, 13.73),
        ["Mg", "Mn", "O"],
        [[0, 0, 0.36], [0, 0, 0.15], [0.317, 0.023, 0.245]],
    )
    assert kpoint_mesh(primitive(ilmenite), 10) == mesh
