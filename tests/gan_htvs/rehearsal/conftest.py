"""Folders of calculations to rehearse."""

from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp.sets import MPRelaxSet

from gan_htvs.rehearsal.potcar import placeholder_potcars

SYMBOLS = ("Mg_pv", "Mn_pv", "O")


def rocksalt(metal: str, a: float) -> Structure:
    cubic = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(a), [metal, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    return cubic.get_primitive_structure()


def afm_mno() -> Structure:
    structure = rocksalt("Mn", 4.6)
    structure.make_supercell([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    structure.add_site_property("magmom", [5.0, -5.0, 0.0, 0.0])
    return structure


@pytest.fixture
def mgo():
    return rocksalt("Mg", 4.35)


@pytest.fixture
def mno():
    return afm_mno()


@pytest.fixture
def written(tmp_path):
    """Write the inputs of a calculation with placeholder POTCARs."""

    def write(structure, input_set=MPRelaxSet, **incar):
        with placeholder_potcars(SYMBOLS, "PBE"):
            input_set(
                structure,
                user_potcar_functional="PBE",
                user_incar_settings=incar,
                user_kpoints_settings={"reciprocal_density": 20},
            ).write_input(tmp_path)
        return tmp_path

    return write
