from __future__ import annotations

from itertools import islice

import numpy as np

from gan_htvs.chemistry import ChemicalSystem
from gan_htvs.declash import VOLUME_PER_ATOM
from gan_htvs.proposers.random_cells import VOLUME_SPREAD, RandomCells
from gan_htvs.proposers.sampling import sample
from gan_htvs.validity import possible_cells

MG_MN_O = ChemicalSystem(caps={"Mg": 8, "Mn": 8, "O": 12})


def test_cells_are_sensible_and_positions_uniform():
    cells = list(islice(RandomCells(MG_MN_O).raw_samples((2, 4, 8), np.random.default_rng(0)), 200))
    volumes = np.array([cell.volume / len(cell) for cell in cells]) / VOLUME_PER_ATOM
    assert 1 - VOLUME_SPREAD <= volumes.min() < 0.85
    assert 1.15 < volumes.max() <= 1 + VOLUME_SPREAD
    assert possible_cells([cell.lattice.parameters for cell in cells]).all()
    coords = np.concatenate([cell.frac_coords for cell in cells])
    np.testing.assert_allclose(coords.mean(axis=0), 0.5, atol=0.02)
    np.testing.assert_allclose(coords.var(axis=0), 1 / 12, atol=0.005)


def test_most_survive_after_the_push():
    assert sample(RandomCells(MG_MN_O), (2, 4, 8), 20, seed=0).acceptance > 0.8
