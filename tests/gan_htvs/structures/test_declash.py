from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.structures.declash import VOLUME_PER_ATOM, declash, pair_distances
from gan_htvs.structures.validity import RejectionReason, check_geometry, possible_cells
from tests.helpers import rocksalt_cell

ELEMENTS = ("Mg", "Mn", "O")


def random_cells(n: int, counts: tuple[int, int, int] = (2, 4, 8)) -> list[Structure]:
    rng = np.random.default_rng(7)
    cells: list[Structure] = []
    while len(cells) < n:
        parameters = [*rng.uniform(2.5, 14, 3), *rng.uniform(50, 130, 3)]
        if possible_cells([parameters])[0]:
            symbols = np.repeat(ELEMENTS, counts).tolist()
            lattice = Lattice.from_parameters(*parameters)
            cells.append(Structure(lattice, symbols, rng.random((sum(counts), 3))))
    return cells


def smallest_distance_ratio(structure: Structure) -> float:
    """Compute the smallest ratio of distance and pair distance by pymatgen's neighbor search."""
    distances = pair_distances(ELEMENTS)
    return min(
        neighbor.nn_distance / distances[site.specie.symbol, neighbor.specie.symbol]
        for site, neighbors in zip(structure, structure.get_all_neighbors(4.0), strict=True)
        for neighbor in neighbors
    )


def test_pair_distances_of_mg_mn_o() -> None:
    distances = pair_distances(ELEMENTS)
    assert 1.85 <= distances["Mg", "O"] <= 1.95
    assert 1.85 <= distances["O", "Mn"] <= 1.95
    assert distances["O", "O"] == pytest.approx(2.45, abs=0.01)
    for pair in (("Mg", "Mg"), ("Mg", "Mn"), ("Mn", "Mn")):
        assert 2.6 <= distances[pair] <= 2.7


def test_pair_distances_of_other_chemistries() -> None:
    assert pair_distances(("V", "O"))["V", "O"] == pytest.approx(1.83, abs=0.05)
    barium = pair_distances(("Ba", "Ti", "O"))
    assert barium["Ba", "O"] > barium["Ti", "O"]
    assert 2.2 < pair_distances(("Cu", "Zn"))["Cu", "Zn"] < 2.8


def test_random_cells_have_no_overlap_and_an_oxide_density() -> None:
    cells = random_cells(12)
    result = declash(cells)
    assert (result.overlap <= 0.05).all()
    for before, after in zip(cells, result.structures, strict=True):
        assert after.composition == before.composition
        assert after.volume / len(after) == pytest.approx(VOLUME_PER_ATOM, rel=0.2)
        assert smallest_distance_ratio(after) > 0.96
        assert check_geometry(after) is None
    assert (result.max_displacement > 0.1).all()


def test_declash_of_a_batch_equals_declash_one_by_one() -> None:
    cells = random_cells(4)
    together = declash(cells)
    for i, cell in enumerate(cells):
        alone = declash([cell])
        np.testing.assert_allclose(
            alone.structures[0].lattice.parameters,
            together.structures[i].lattice.parameters,
            atol=1e-6,
        )


def test_declash_is_deterministic() -> None:
    first, second = declash(random_cells(3)), declash(random_cells(3))
    for a, b in zip(first.structures, second.structures, strict=True):
        np.testing.assert_array_equal(a.frac_coords, b.frac_coords)
        np.testing.assert_array_equal(a.lattice.matrix, b.lattice.matrix)


def test_crystal_without_overlap_is_unchanged() -> None:
    crystal = rocksalt_cell()
    result = declash([crystal])
    assert result.max_displacement[0] == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(result.structures[0].lattice.matrix, crystal.lattice.matrix)


def test_large_cell_is_shrunk() -> None:
    (after,) = declash([rocksalt_cell(length=9)]).structures
    assert after.volume / len(after) == pytest.approx(VOLUME_PER_ATOM)


def test_coincident_atoms_are_separated() -> None:
    cell = Structure(Lattice.cubic(4), ["Mg", "Mn", "O", "O"], [[0.2] * 3] * 4)
    result = declash([cell])
    assert np.isfinite(result.structures[0].frac_coords).all()
    assert result.overlap[0] <= 0.05


def test_unusable_input_is_unchanged_and_does_not_affect_others() -> None:
    (good,) = random_cells(1)
    flat = Structure(Lattice.from_parameters(5, 5, 5, 60, 60, 119.999), ["O"], [[0] * 3])
    broken = Structure(Lattice.cubic(4), ["Mg", "O"], [[0] * 3, [np.nan] * 3])
    result = declash([broken, good, flat])
    assert np.isnan(result.overlap).tolist() == [True, False, True]
    assert result.structures[0] is broken
    assert result.structures[2] is flat
    assert check_geometry(result.structures[0]) is RejectionReason.NOT_FINITE
    alone = declash([good]).structures[0]
    np.testing.assert_allclose(alone.lattice.abc, result.structures[1].lattice.abc, atol=1e-6)


def test_remaining_overlap_is_reported_at_the_step_limit(monkeypatch) -> None:
    monkeypatch.setattr("gan_htvs.structures.declash.MAX_STEPS", 1)
    result = declash(random_cells(3))
    assert (result.overlap > 0.05).all()


def test_empty_batch() -> None:
    assert declash([]).structures == []


def test_tellurium_is_a_cation_beside_oxygen():
    assert pair_distances(("Mg", "Te", "O"))["Te", "O"] < 2.2
