"""Structures and input folders of calculations to rehearse."""

from __future__ import annotations

from functools import partial

import pytest
from pymatgen.core import Structure
from pymatgen.io.vasp.sets import MPRelaxSet

from launchers.rehearsal.environment import stand_in
from launchers.rehearsal.program import run
from tests.helpers import rocksalt

SYMBOLS = ("Mg_pv", "Mn_pv", "O")


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


@pytest.fixture(scope="session")
def write_inputs(tmp_path_factory):
    """Write the inputs of a calculation with placeholder POTCARs into a folder."""

    potcars = tmp_path_factory.mktemp("potcars")

    def write(folder, structure, input_set=MPRelaxSet, **incar):
        with stand_in(potcars, SYMBOLS, "PBE"):
            input_set(
                structure,
                user_potcar_functional="PBE",
                user_incar_settings=incar,
                user_kpoints_settings={"reciprocal_density": 20},
            ).write_input(folder)
        return folder

    return write


@pytest.fixture
def written(tmp_path, write_inputs):
    """Write inputs into the folder of this test."""
    return partial(write_inputs, tmp_path)


@pytest.fixture(scope="module")
def relaxed(tmp_path_factory, write_inputs):
    """Relax antiferromagnetic MnO; tests must not change the folder."""
    folder = write_inputs(tmp_path_factory.mktemp("relaxed"), afm_mno())
    assert run(folder) == 0
    return folder
