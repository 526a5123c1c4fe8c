from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.dataset.ions import fit_volume


@pytest.mark.parametrize(
    ("cation", "a"), [("Mg", 4.212), ("Mn", 4.445), ("Ca", 4.811), ("Ni", 4.177)]
)
def test_rocksalt_monoxides_have_the_measured_lattice_constant(cation, a):
    squeezed = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.0), [cation, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    fit = fit_volume(squeezed, np.array([2.0] * 4 + [-2.0] * 4))
    assert fit is not None
    structure, instability = fit
    assert structure.lattice.a == pytest.approx(a, rel=0.03)
    assert instability == pytest.approx(0, abs=1e-3)


def test_unsuitable_charges_have_a_large_instability_index():
    rutile = Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.4, 2.87), ["Mn", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
    )
    matching = fit_volume(rutile, np.array([4.0] * 2 + [-2.0] * 4))
    mismatched = fit_volume(rutile, np.array([6.0, 2.0] + [-2.0] * 4))
    assert matching is not None
    assert mismatched is not None
    assert matching[1] < 0.1
    assert mismatched[1] > 0.8


def test_distant_ions_have_no_volume():
    gas = Structure(Lattice.cubic(20), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert fit_volume(gas, np.array([2.0, -2.0])) is None
