from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from gan_htvs.potentials.springs import CUTOFF, DECAY, SIDEWAYS, STRENGTH, spring_hessian


def crystal() -> Atoms:
    atoms = bulk("MnO", "rocksalt", a=4.5) * (2, 1, 1)
    atoms.rattle(0.1, seed=0)
    return atoms


def energy(atoms: Atoms, moves, strain) -> float:
    """Compute the energy of the springs, pair by pair."""
    total = 0.0
    for i, j, vector in zip(*neighbor_list("ijD", atoms, CUTOFF), strict=True):
        touching = sum(covalent_radii[atoms.numbers[[i, j]]])
        length = np.linalg.norm(vector)
        strength = STRENGTH * np.exp(-DECAY * (length / touching - 1))
        stretch = moves[j] - moves[i] + strain @ vector
        along = stretch @ vector / length
        total += strength * ((1 - SIDEWAYS) * along**2 + SIDEWAYS * stretch @ stretch) / 4
    return total


def test_hessian_of_springs():
    atoms = crystal()
    hessian = spring_hessian(atoms)
    assert hessian == pytest.approx(hessian.T)
    rng = np.random.default_rng(1)
    for _ in range(3):
        moves, strain = rng.normal(size=(len(atoms), 3)), rng.normal(size=(3, 3))
        x = np.concatenate([moves.ravel(), strain.ravel()])
        assert x @ hessian @ x / 2 == pytest.approx(energy(atoms, moves, strain))
    assert np.linalg.eigvalsh(hessian).min() > -1e-9
    shift = np.concatenate([np.tile([0.3, -0.2, 0.5], len(atoms)), np.zeros(9)])
    assert shift @ hessian @ shift == pytest.approx(0, abs=1e-9)


def test_hessian_of_coincident_and_isolated_atoms_is_finite():
    for positions in ([[0, 0, 0], [0, 0, 0]], [[0, 0, 0], [9, 9, 9]]):
        hessian = spring_hessian(Atoms("O2", positions, cell=[20, 20, 20], pbc=True))
        assert np.isfinite(hessian).all()
