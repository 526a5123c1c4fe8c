from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.structures.superlattices import hermite_normal_forms, inequivalent_superlattices

FCC = Structure(
    Lattice([[0, 2, 2], [2, 0, 2], [2, 2, 0]]), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
)
CUBIC = Structure(Lattice.cubic(3), ["Na"], [[0, 0, 0]])


@pytest.mark.parametrize(("index", "n_forms"), [(1, 1), (2, 7), (3, 13), (4, 35), (6, 91)])
def test_number_of_hermite_normal_forms(index, n_forms):
    forms = hermite_normal_forms(index)
    assert len(forms) == n_forms
    np.testing.assert_allclose(np.linalg.det(forms), index)


@pytest.mark.parametrize(
    ("structure", "numbers"),
    # Hart & Forcade 2008, table IV.
    [(FCC, [1, 2, 3, 7, 5, 10, 7, 20]), (CUBIC, [1, 3, 3, 9, 5, 13, 7, 24])],
)
def test_inequivalent_superlattices_of_cubic_lattices(structure, numbers):
    counted = [len(inequivalent_superlattices(n, structure)) for n in range(1, len(numbers) + 1)]
    assert counted == numbers
