from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.structures.declash import declash
from gan_htvs.structures.geometry_limits import GeometryLimits, overlap_distances
from gan_htvs.structures.validity import RejectionReason, check_geometry, possible_cells
from tests.helpers import brucite, crystal, rocksalt_cell

ELEMENTS = ("Mg", "Mn", "O")
THIRD, TWO = 1 / 3, 2 / 3


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
    distances = overlap_distances(ELEMENTS)
    return min(
        neighbor.nn_distance / distances[site.specie.symbol, neighbor.specie.symbol]
        for site, neighbors in zip(structure, structure.get_all_neighbors(4.0), strict=True)
        for neighbor in neighbors
    )


def test_random_cells_have_no_overlap_and_an_oxide_density() -> None:
    cells = random_cells(12)
    result = declash(cells)
    assert (result.overlap <= 0.05).all()
    for before, after in zip(cells, result.structures, strict=True):
        assert after.composition == before.composition
        assert after.volume / len(after) == pytest.approx(13, rel=0.2)
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


PERFECT = {
    "MnS": (17.8, crystal("Fm-3m", Lattice.cubic(5.224), Mn=[0, 0, 0], S=[0.5, 0.5, 0.5])),
    "MgMn2S4": (
        19.0,
        crystal("Fd-3m", Lattice.cubic(10.2), Mg=[0, 0, 0], Mn=[0.625] * 3, S=[0.386] * 3),
    ),
    "KMnCl3": (
        26.2,
        crystal("Pm-3m", Lattice.cubic(5.08), K=[0.5] * 3, Mn=[0, 0, 0], Cl=[0.5, 0, 0]),
    ),
    "CdSe": (
        28.1,
        crystal(
            "P6_3mc", Lattice.hexagonal(4.299, 7.015), Cd=[THIRD, TWO, 0], Se=[THIRD, TWO, 0.376]
        ),
    ),
    "CsPbI3": (
        49.8,
        crystal("Pm-3m", Lattice.cubic(6.29), Cs=[0.5] * 3, Pb=[0, 0, 0], I=[0.5, 0, 0]),
    ),
    "sodalite": (
        19.1,
        crystal("Im-3m", Lattice.cubic(8.83), Si=[0.25, 0, 0.5], O=[0.147, 0.147, 0.5]),
    ),
    "MgMn2O4": (
        11.0,
        crystal("Fd-3m", Lattice.cubic(8.5), Mg=[0, 0, 0], Mn=[0.625] * 3, O=[0.3875] * 3),
    ),
    "anatase": (
        11.4,
        crystal("I4_1/amd", Lattice.tetragonal(3.785, 9.514), Ti=[0, 0, 0], O=[0, 0, 0.208]),
    ),
    "Li2O": (8.2, crystal("Fm-3m", Lattice.cubic(4.61), Li=[0.25] * 3, O=[0, 0, 0])),
    "brucite": (8.15, brucite()),
    "calcium": (43.6, crystal("Fm-3m", Lattice.cubic(5.588), Ca=[0, 0, 0])),
}
"""Measured crystals and their volumes, A^3/atom."""


@pytest.mark.parametrize("name", PERFECT)
def test_perfect_crystals_are_unchanged(name: str) -> None:
    volume, perfect = PERFECT[name]
    result = declash([perfect])
    (after,) = result.structures
    assert perfect.volume / len(perfect) == pytest.approx(volume, abs=0.05)
    assert after.volume == pytest.approx(perfect.volume, rel=1e-9)
    assert result.max_displacement[0] == pytest.approx(0, abs=1e-9)


def test_loose_cell_is_shrunk_on_request() -> None:
    loose = rocksalt_cell(length=9)
    (kept,) = declash([loose]).structures
    assert kept.volume == pytest.approx(loose.volume)
    (shrunk,) = declash([loose], shrinks_loose=True).structures
    assert shrunk.volume / len(shrunk) == pytest.approx(13)
    limits = GeometryLimits(target_volume_per_atom=20)
    (other,) = declash([loose], limits, shrinks_loose=True).structures
    assert other.volume / len(other) == pytest.approx(20)


def test_overlap_distances_of_the_settings() -> None:
    crystal = rocksalt_cell()
    (after,) = declash([crystal], GeometryLimits(overlap_distances={"O-Mg": 2.4})).structures
    assert after.get_neighbor_list(2.3)[3].size == 0


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
    assert check_geometry(result.structures[0]).reason is RejectionReason.NOT_FINITE
    alone = declash([good]).structures[0]
    np.testing.assert_allclose(alone.lattice.abc, result.structures[1].lattice.abc, atol=1e-6)


def test_remaining_overlap_is_reported_at_the_step_limit(monkeypatch) -> None:
    monkeypatch.setattr("gan_htvs.structures.declash.MAX_STEPS", 1)
    result = declash(random_cells(3))
    assert (result.overlap > 0.05).all()


def test_empty_batch() -> None:
    assert declash([]).structures == []
