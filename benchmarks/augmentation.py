"""Measure augmented images per second: in batches, and one structure at a time with pymatgen.

    python benchmarks/augmentation.py

Both draw a cell formula, a crystal and one of its supercells, then a new origin, a permutation of
the axes and a permutation of equal atoms, and encode the image.
"""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np
import torch
from pymatgen.core import Lattice, Structure
from stopwatch import REPEATS, rate

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.generator.augmentation import TrainingImages, all_supercells
from gan_htvs.structures.point_cloud import encode

SYSTEM = ChemicalSystem(caps={"Mg": 8, "Mn": 8, "O": 12})
N_CRYSTALS = 800
LARGE, SMALL, ONE_BY_ONE = 4096, 32, 64


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    crystals = random_crystals(N_CRYSTALS)
    counts = np.array([SYSTEM.counts(crystal) for crystal in crystals])
    images = encode(crystals, SYSTEM)
    data = TrainingImages(images, counts, SYSTEM)
    one_by_one = OneByOne(crystals, images, counts)
    rng, numpy_rng = torch.Generator().manual_seed(0), np.random.default_rng(0)

    large = rate(lambda: data.draw(LARGE, rng), LARGE)
    small = rate(lambda: [data.draw(SMALL, rng) for _ in range(100)], 100 * SMALL)
    baseline = rate(lambda: one_by_one.draw(ONE_BY_ONE, numpy_rng), ONE_BY_ONE)

    print(f"{N_CRYSTALS} crystals, {len(data.images)} cells; CPU time, median of {REPEATS}")
    print(f"  pymatgen, one by one   {baseline:12,.0f} images/s")
    print(f"  batches of {SMALL:4}        {small:12,.0f} images/s  {small / baseline:8,.0f} x")
    print(f"  batches of {LARGE:4}        {large:12,.0f} images/s  {large / baseline:8,.0f} x")
    print(
        json.dumps(
            {
                "claim": "augmentation makes at least 200,000 images/s on one core",
                "value": round(large),
                "unit": "images/s",
                "baseline": round(baseline),
                "ratio": round(large / baseline, 1),
            }
        )
    )


def random_crystals(n: int) -> list[Structure]:
    """Return cells of up to 20 atoms with random positions."""
    rng = np.random.default_rng(0)
    crystals = []
    for _ in range(n):
        counts = rng.integers(1, [5, 5, 13])
        cell = Lattice.from_parameters(*rng.uniform(0.7, 1.4, 3), *rng.uniform(70, 110, 3))
        symbols = np.repeat(SYSTEM.elements, counts).tolist()
        crystals.append(
            Structure(cell.scale(11 * len(symbols)), symbols, rng.random((len(symbols), 3)))
        )
    return crystals


class OneByOne:
    """The same augmentation, structure by structure with pymatgen."""

    def __init__(self, crystals: list[Structure], images: np.ndarray, counts: np.ndarray) -> None:
        self.crystals = crystals
        self.choices: dict[tuple[int, ...], list[tuple[int, list[int]]]] = defaultdict(list)
        larger, larger_counts, parents = all_supercells(images, counts, SYSTEM)
        for image, formula, parent in zip(larger, larger_counts, parents, strict=True):
            multiples = np.round(image[0] / images[parent, 0]).astype(int).tolist()
            self.choices[tuple(formula.tolist())].append((int(parent), multiples))
        self.formulas = sorted(self.choices)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw ``n`` images."""
        return encode([self._draw_one(rng) for _ in range(n)], SYSTEM)

    def _draw_one(self, rng: np.random.Generator) -> Structure:
        choices = self.choices[self.formulas[rng.integers(len(self.formulas))]]
        parent, multiples = choices[rng.integers(len(choices))]
        crystal = self.crystals[parent].copy()
        crystal.make_supercell(multiples)
        crystal.translate_sites(list(range(len(crystal))), rng.random(3))
        axes = rng.permutation(3)
        lengths, angles = np.array(crystal.lattice.abc), np.array(crystal.lattice.angles)
        order = rng.permutation(len(crystal))
        return Structure(
            Lattice.from_parameters(*lengths[axes], *angles[axes]),
            [crystal[i].specie for i in order],
            crystal.frac_coords[order][:, axes],
        )


if __name__ == "__main__":
    main()
