"""Small training set shared by the tests of the generator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pymatgen.core import Structure

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.structures.point_cloud import decode, encode

V_O = ChemicalSystem(caps={"V": 2, "O": 5})


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Return six cells of two compositions, five of them VO2."""
    rng = np.random.default_rng(0)
    cells = [
        Structure(np.diag([3.0, 4.5, 5.0 + i / 5]), ["V"] * v + ["O"] * o, rng.random((v + o, 3)))
        for i, (v, o) in enumerate([(1, 2)] * 5 + [(2, 5)])
    ]
    return encode(cells, V_O)


@pytest.fixture(scope="module")
def counts(images: np.ndarray) -> np.ndarray:
    return decode(images, V_O).counts
