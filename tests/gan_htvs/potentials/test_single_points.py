from __future__ import annotations

import numpy as np
import pytest
from pymatgen.io.ase import AseAtomsAdaptor

from gan_htvs.potentials.calculators import calculator_of
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.potentials.single_points import single_point_energies
from tests.helpers import cesium_chloride, rocksalt


@pytest.mark.parametrize("name", ["chgnet", "sevennet-0"])
def test_energies_are_those_of_the_calculator(name):
    structures = [rocksalt(), cesium_chloride()]
    energies = single_point_energies(structures, PotentialSettings(name=name))
    calculator = calculator_of(name)
    expected = [
        calculator.get_potential_energy(AseAtomsAdaptor.get_atoms(structure)) / len(structure)
        for structure in structures
    ]
    assert energies == pytest.approx(expected, abs=1e-5)


def test_a_structure_that_the_potential_cannot_compute_has_infinite_energy():
    energies = single_point_energies([rocksalt("Og"), rocksalt()], PotentialSettings(name="chgnet"))
    assert np.isinf(energies).tolist() == [True, False]
