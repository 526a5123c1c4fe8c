from __future__ import annotations

import itertools

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.structures.fingerprint import (
    ANGLE_TOLERANCE,
    LENGTH_TOLERANCE,
    Fingerprint,
    possible_matches,
    similar_bases,
)
from gan_htvs.structures.matching import structure_matcher


def random_structure(rng: np.random.Generator, n: int = 4) -> Structure:
    cell = Lattice.from_parameters(*rng.uniform(0.6, 1.6, 3), *rng.uniform(60, 120, 3))
    symbols = ["Mg", "Mn", "O", "O", "O", "O"][:n]
    return Structure(cell.scale(11 * n), symbols, rng.random((n, 3)))


def bases_by_pymatgen(fingerprint: Fingerprint, other: Fingerprint) -> set[tuple[int, ...]]:
    """Find the bases of one lattice that are similar to the cell of another, up to inversion."""
    lattices = [
        Lattice(f.structure.lattice.matrix / f.structure.volume ** (1 / 3))
        for f in (fingerprint, other)
    ]
    mappings = lattices[0].find_all_mappings(
        lattices[1], ltol=LENGTH_TOLERANCE, atol=ANGLE_TOLERANCE, skip_rotation_matrix=True
    )
    scales = [scale for _, _, scale in mappings if abs(round(np.linalg.det(scale))) == 1]
    return {max(tuple(m.ravel().tolist()), tuple((-m).ravel().tolist())) for m in scales}


def test_similar_bases_are_those_of_pymatgen() -> None:
    rng = np.random.default_rng(0)
    fingerprints = [Fingerprint.from_structure(random_structure(rng)) for _ in range(12)]
    cubic = Structure(Lattice.cubic(4), ["Mg", "Mn", "O", "O"], rng.random((4, 3)))
    hexagonal = Structure(Lattice.hexagonal(3, 5), ["Mg", "Mn", "O", "O"], rng.random((4, 3)))
    fcc = Structure(Lattice([[0, 2, 2], [2, 0, 2], [2, 2, 0]]), cubic.species, rng.random((4, 3)))
    fingerprints += [Fingerprint.from_structure(s) for s in (cubic, hexagonal, fcc)]
    n_bases = 0
    for one, other in itertools.product(fingerprints, repeat=2):
        _, bases, _, _ = similar_bases([one], other)
        similar = [m.ravel().tolist() for m in bases]
        expected = bases_by_pymatgen(one, other)
        assert {max(tuple(m), tuple(-x for x in m)) for m in similar} == expected
        assert len(similar) == len(expected)
        n_bases += len(expected)
    assert n_bases > 50


def test_few_random_pairs_are_possible_matches() -> None:
    rng = np.random.default_rng(1)
    fingerprints = [Fingerprint.from_structure(random_structure(rng, 6)) for _ in range(60)]
    possible = sum(
        len(possible_matches(fingerprints[:i], fingerprint))
        for i, fingerprint in enumerate(fingerprints)
    )
    assert possible < 0.02 * 60 * 59 / 2


def test_all_matches_are_possible_matches() -> None:
    """Small random cells, some of which match by chance."""
    rng = np.random.default_rng(2)
    matcher = structure_matcher()
    fingerprints = [Fingerprint.from_structure(random_structure(rng, 2)) for _ in range(50)]
    n_matches = 0
    for one, other in itertools.combinations(fingerprints, 2):
        if matcher.fit(one.structure, other.structure, skip_structure_reduction=True):
            assert possible_matches([one], other) == [0]
            n_matches += 1
    assert n_matches > 20


def test_fingerprint_is_that_of_the_primitive_cell() -> None:
    cell = Structure(Lattice.cubic(3), ["O", "Mg"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    fingerprint = Fingerprint.from_structure(cell * (1, 2, 3))
    assert fingerprint.formula == (("Mg", 1), ("O", 1))
    np.testing.assert_allclose(fingerprint.lengths, 1)
    np.testing.assert_allclose(fingerprint.angles, 90)
    assert len(fingerprint.bases)
    assert (np.abs(np.round(np.linalg.det(fingerprint.bases["vectors"]))) == 1).all()


@pytest.mark.parametrize("missing", ["one", "other"])
def test_untabulated_lattices_are_always_possible_matches(missing: str) -> None:
    rng = np.random.default_rng(4)
    needle = Structure(Lattice.orthorhombic(1, 1, 400), ["Mg", "Mn"], rng.random((2, 3)))
    fingerprints = {
        "one": Fingerprint.from_structure(random_structure(rng, 2)),
        "other": Fingerprint.from_structure(needle),
    }
    assert not len(fingerprints["other"].bases)
    new = fingerprints.pop(missing)
    assert possible_matches(list(fingerprints.values()), new) == [0]
