from __future__ import annotations

import numpy as np
import pytest

from gan_htvs.evaluation.structure_metrics import diversity, prototype_label, relaxation_rmsd
from tests.helpers import rocksalt, spinel

from .conftest import CSCL, LEAD_OXIDE, ROCKSALT, WURTZITE, ZINCBLENDE


def test_rmsd_is_a_length_in_angstrom():
    # One of two atoms moves by 0.2 A: each is 0.1 A from the positions of equal centers.
    moved = CSCL.copy()
    moved.translate_sites([0], [0, 0, 0.2], frac_coords=False)
    assert relaxation_rmsd(CSCL, moved) == pytest.approx(0.1, abs=1e-3)
    larger = CSCL.copy().scale_lattice(8 * CSCL.volume)
    larger_moved = moved.copy().scale_lattice(8 * CSCL.volume)
    assert relaxation_rmsd(larger, larger_moved) == pytest.approx(0.2, abs=2e-3)


def test_rmsd_does_not_depend_on_the_cell():
    moved = WURTZITE.copy()
    moved.translate_sites([0], [0, 0, 0.1], frac_coords=False)
    doubled = moved.make_supercell([2, 1, 1], in_place=False)
    assert relaxation_rmsd(WURTZITE, doubled) == pytest.approx(relaxation_rmsd(WURTZITE, moved))


def test_structures_that_cannot_be_superimposed_have_no_rmsd():
    assert relaxation_rmsd(CSCL, CSCL.copy().scale_lattice(20 * CSCL.volume)) is None


def test_prototypes_of_known_crystals():
    assert prototype_label(rocksalt()) == prototype_label(rocksalt("Mn", 4.4))
    assert prototype_label(spinel()).startswith("AB2C4_cF56_227_")
    labels = {prototype_label(s) for s in (ROCKSALT, ZINCBLENDE, CSCL, WURTZITE, LEAD_OXIDE)}
    assert len(labels) == 5


def test_effective_number_of_prototypes():
    equal = diversity([ROCKSALT, ZINCBLENDE, CSCL, WURTZITE])
    assert (equal.prototypes, equal.space_groups) == (4, 4)
    assert equal.effective_prototypes == pytest.approx(4)
    uneven = diversity([ROCKSALT, ROCKSALT.copy(), ROCKSALT.copy(), CSCL])
    assert (uneven.n_structures, uneven.prototypes) == (4, 2)
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert uneven.effective_prototypes == pytest.approx(np.exp(entropy))
    assert diversity([]) is None
