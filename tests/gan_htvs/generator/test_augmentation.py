from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.generator.augmentation import TrainingImages
from gan_htvs.structures.matching import structure_matcher
from gan_htvs.structures.point_cloud import decode, encode
from tests.helpers import MG_MN_O

V_O = ChemicalSystem(caps={"V": 2, "O": 5})


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_cell(seed: int, counts: tuple[int, ...], system: ChemicalSystem) -> Structure:
    draw = np.random.default_rng(seed)
    return Structure(
        Lattice.from_parameters(*draw.uniform(3, 8, 3), *draw.uniform(70, 110, 3)),
        np.repeat(system.elements, counts).tolist(),
        draw.random((sum(counts), 3)),
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), counts=st.tuples(*[st.integers(1, 4)] * 3))
def test_augmented_images_are_the_same_crystal(seed: int, counts: tuple[int, ...]) -> None:
    parent = random_cell(seed, counts, MG_MN_O)
    # The search of the matcher for a primitive cell merges atoms within 0.25 A.
    assume((parent.distance_matrix + 9 * np.eye(len(parent))).min() > 0.5)
    data = TrainingImages(encode([parent], MG_MN_O), np.array([counts]), MG_MN_O)
    drawn, drawn_counts = data.draw(6, rng(seed))
    assert drawn.dtype == torch.float32
    matcher = structure_matcher()
    for structure, n in zip(
        decode(drawn.numpy(), MG_MN_O).to_structures(), drawn_counts.tolist(), strict=True
    ):
        assert isinstance(structure, Structure)
        assert MG_MN_O.counts(structure) == tuple(n)
        assert matcher.get_rms_dist(parent, structure)[0] < 1e-3


def test_padding_stays_zero_and_last(images: np.ndarray, counts: np.ndarray) -> None:
    drawn, n = TrainingImages(images, counts, V_O).draw(500, rng(2))
    rows = drawn.numpy()[:, 2:]
    for e, block in enumerate(V_O.blocks):
        atoms = np.arange(block.stop - block.start) < n.numpy()[:, e, None]
        assert (rows[:, block][~atoms] == 0).all()
        assert (rows[:, block][atoms] >= 1 / 6 - 1e-6).all()
        assert (rows[:, block][atoms] <= 5 / 6 + 1e-6).all()


def test_drawing_is_reproducible(images: np.ndarray, counts: np.ndarray) -> None:
    first, second = (TrainingImages(images, counts, V_O).draw(64, rng(5)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_origins_axes_and_row_orders_are_uniform() -> None:
    system = ChemicalSystem(caps={"Mg": 3, "O": 9})
    cell = Structure(
        Lattice.orthorhombic(3, 6, 9),
        ["Mg"] * 3 + ["O"] * 9,
        np.random.default_rng(1).random((12, 3)),
    )
    stored = encode([cell], system)
    n = 60_000
    drawn, _ = TrainingImages(stored, np.array([[3, 9]]), system).draw(n, rng())
    image = drawn.numpy()

    orders = Counter(map(tuple, np.round(image[:, 0] * 10).astype(int).tolist()))
    assert len(orders) == 6
    assert all(abs(k - n / 6) < 5 * math.sqrt(n / 6) for k in orders.values())

    # Positions of an atom are uniform.
    histogram, _ = np.histogram(image[:, 2, 0], bins=20, range=(1 / 6, 5 / 6))
    assert (np.abs(histogram - n / 20) < 5 * math.sqrt(n / 20)).all()

    # Without axes and origin, the order of the rows is known.
    mg = Counter(map(tuple, row_orders(image, stored[0], slice(0, 3)).tolist()))
    assert len(mg) == 6
    assert all(abs(k - n / 6) < 5 * math.sqrt(n / 6) for k in mg.values())
    oxygen = row_orders(image[:20_000], stored[0], slice(3, 12))
    positions = np.array([np.bincount(oxygen[:, row], minlength=9) for row in range(9)])
    # Sampling noise, including that of 5,040 orders representing 9!.
    assert (np.abs(positions / 20_000 - 1 / 9) < 5 * math.sqrt(1 / 9 / 5040 + 1 / 9 / 20_000)).all()
    assert len(np.unique(oxygen, axis=0)) > 4000


def row_orders(images: np.ndarray, stored: np.ndarray, block: slice) -> np.ndarray:
    """Return the stored row of each row of a block; cells must have three different lengths."""
    axes = np.argsort(images[:, 0], axis=1)
    frac = np.take_along_axis(images[:, 2:], axes[:, None], axis=2)[:, block] * 1.5
    stored_frac = stored[2:][block] * 1.5
    # Try every stored atom as the first row and compare the others.
    best = np.full((len(images), len(stored_frac)), np.inf)
    order = np.zeros((len(images), len(stored_frac)), dtype=int)
    for first in range(len(stored_frac)):
        moved = frac - frac[:, :1] + stored_frac[first]
        difference = moved[:, :, None] - stored_frac
        distance = np.abs(difference - np.round(difference)).max(axis=3)
        worst = distance.min(axis=2).max(axis=1)
        better = worst < best[:, 0]
        best[better] = worst[better, None]
        order[better] = distance.argmin(axis=2)[better]
    assert best.max() < 1e-4
    return order


def test_formulas_are_drawn_with_equal_probability(images: np.ndarray, counts: np.ndarray) -> None:
    data = TrainingImages(images, counts, V_O)
    _, drawn = data.draw(9000, rng())
    formulas, frequencies = np.unique(drawn.numpy(), axis=0, return_counts=True)
    assert formulas.tolist() == [[1, 2], [2, 4], [2, 5]]
    np.testing.assert_allclose(frequencies / 9000, 1 / 3, atol=0.03)

    _, drawn = TrainingImages(images, counts, V_O, supercells=False).draw(4000, rng())
    formulas, frequencies = np.unique(drawn.numpy(), axis=0, return_counts=True)
    assert formulas.tolist() == [[1, 2], [2, 5]]
    np.testing.assert_allclose(frequencies / 4000, 1 / 2, atol=0.04)


def test_crystals_of_a_formula_are_drawn_by_weight(images: np.ndarray, counts: np.ndarray) -> None:
    data = TrainingImages(images, counts, V_O, weights=[4, 1, 1, 1, 1, 9], supercells=False)
    np.testing.assert_allclose(data.probabilities, [0.25, *[0.0625] * 4, 0.5])
    drawn, n = data.draw(8000, rng())
    small = drawn[n[:, 0] == 1, 0].sort(dim=1).values.numpy()
    share = np.isclose(small[:, 2], images[0, 0].max(), atol=1e-5).mean()
    assert share == pytest.approx(0.5, abs=0.04)


def test_number_of_supercells_does_not_change_the_probability_of_a_crystal() -> None:
    cells = [random_cell(0, (1, 1, 2), MG_MN_O), random_cell(1, (4, 4, 8), MG_MN_O)]
    data = TrainingImages(encode(cells, MG_MN_O), np.array([[1, 1, 2], [4, 4, 8]]), MG_MN_O)
    is_formula = (data.counts == torch.tensor([4, 4, 8])).all(dim=1)
    assert is_formula.sum() > 2
    np.testing.assert_allclose(
        data.probabilities[is_formula][0] / data.probabilities[is_formula].sum(), 0.5
    )


def test_all_crystals_of_a_composition_are_drawn() -> None:
    cells = [random_cell(i, (1, 2), V_O) for i in range(300)]
    data = TrainingImages(encode(cells, V_O), np.tile([1, 2], (300, 1)), V_O, supercells=False)
    drawn, _ = data.draw(6000, rng())
    assert len(np.unique(np.round(drawn[:, 0].sum(dim=1).numpy(), 5))) > 290


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        (lambda i, c: (i[:, :-1], c, None), "images"),
        (lambda i, c: (i, c[:-1], None), "counts"),
        (lambda i, c: (i, c * 3, None), "counts"),
        (lambda i, c: (i[:, ::-1].copy(), c, None), "images"),
        (lambda i, c: (i, c, [1.0] * 5), "weights"),
        (lambda i, c: (i, c, [1.0] * 5 + [0.0]), "weights"),
        (lambda i, c: (i, c, [1.0] * 5 + [math.nan]), "weights"),
    ],
)
def test_arrays_that_do_not_fit_the_system_raise_an_error(
    images: np.ndarray, counts: np.ndarray, change, argument: str
) -> None:
    wrong, wrong_counts, weights = change(images, counts)
    with pytest.raises(ValueError, match=argument):
        TrainingImages(wrong, wrong_counts, V_O, weights=weights)
