"""Measure decoded images per second: in batches, and one image at a time.

    python benchmarks/decoding.py

Both return lattice parameters, fractional coordinates and the number of atoms of each element, or
the reason why an image cannot be decoded.
"""

from __future__ import annotations

import json

import numpy as np
import torch
from pymatgen.core import Lattice, Structure
from stopwatch import REPEATS, rate

from gan_htvs.core.chemical_system import ChemicalSystem
from gan_htvs.structures.point_cloud import (
    ANGLE_SCALE,
    LENGTH_SCALE,
    PRESENCE_THRESHOLD,
    DecodedCells,
    decode,
)
from gan_htvs.structures.validity import RejectionReason, possible_cells

SYSTEM = ChemicalSystem(caps={"Mg": 8, "Mn": 8, "O": 12})
N_IMAGES, ONE_BY_ONE = 4096, 256


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    images = noisy_images(N_IMAGES)
    check(images[:ONE_BY_ONE])

    in_batch = rate(lambda: read_all(images), N_IMAGES)
    arrays = rate(lambda: [read_one(image) for image in images[:ONE_BY_ONE]], ONE_BY_ONE)
    baseline = rate(lambda: [build_one(image) for image in images[:ONE_BY_ONE]], ONE_BY_ONE)

    print(f"{N_IMAGES} images of Mg-Mn-O; CPU time, median of {REPEATS}")
    print(f"  one by one, to pymatgen  {baseline:12,.0f} structures/s")
    print(f"  one by one, to arrays    {arrays:12,.0f} structures/s  {arrays / baseline:6.1f} x")
    print(
        f"  batch, to arrays         {in_batch:12,.0f} structures/s  {in_batch / baseline:6.1f} x"
    )
    print(
        json.dumps(
            {
                "claim": "decoding reads at least 20,000 structures/s to arrays on one core",
                "value": round(in_batch),
                "unit": "structures/s",
                "baseline": round(baseline),
                "ratio": round(in_batch / baseline, 1),
            }
        )
    )


def noisy_images(n: int) -> np.ndarray:
    """Return images like those of a generator: some impossible cells, some missing elements."""
    rng = np.random.default_rng(0)
    images = rng.random((n, 2 + SYSTEM.max_atoms, 3))
    images[:, 2:] *= rng.random((n, SYSTEM.max_atoms, 1)) < rng.choice([0.2, 0.8], (n, 1, 1))
    images[:, 1] = rng.uniform(0.25, 0.75, (n, 3))
    return images.astype(np.float32)


def read_all(images: np.ndarray) -> tuple[DecodedCells, np.ndarray, list[RejectionReason | None]]:
    """Decode a batch; return cells, counts and reasons."""
    cells = decode(images, SYSTEM)
    return cells, cells.counts, cells.reasons


def read_one(
    image: np.ndarray,
) -> tuple[np.ndarray, list[str], np.ndarray, dict[str, int], RejectionReason | None]:
    """Decode one image; return cell, symbols, coordinates, counts and reason."""
    lengths, angles = (
        LENGTH_SCALE * image[0].astype(float),
        ANGLE_SCALE * image[1].astype(float),
    )
    symbols, coords = [], []
    counts = dict.fromkeys(SYSTEM.elements, 0)
    row = 2
    for symbol, cap in SYSTEM.caps.items():
        for _ in range(cap):
            if image[row].sum() > PRESENCE_THRESHOLD:
                symbols.append(symbol)
                coords.append((15 * image[row].astype(float) - 2.5) / 10 % 1.0)
                counts[symbol] += 1
            row += 1
    cell = np.concatenate([lengths, angles])
    reason = None
    if not np.isfinite(image).all():
        reason = RejectionReason.NOT_FINITE
    elif not all(counts.values()):
        reason = RejectionReason.EMPTY_ELEMENT
    elif not possible_cells(cell[None])[0]:
        reason = RejectionReason.IMPOSSIBLE_CELL
    return cell, symbols, np.array(coords), counts, reason


def build_one(image: np.ndarray) -> Structure | RejectionReason:
    """Decode one image to a structure."""
    cell, symbols, coords, _, reason = read_one(image)
    return reason or Structure(Lattice.from_parameters(*cell), symbols, coords)


def check(images: np.ndarray) -> None:
    """Check that both ways give the same results."""
    cells, counts, reasons = read_all(images)
    for i, image in enumerate(images):
        parameters, _, coords, own_counts, reason = read_one(image)
        same = np.allclose(parameters, cells.lattice_parameters[i])
        same &= counts[i].tolist() == list(own_counts.values()) and reason == reasons[i]
        same &= np.allclose(coords.reshape(-1, 3), cells.frac_coords[i][cells.presence[i]])
        if not same:
            raise SystemExit(f"image {i} is decoded differently one by one and in a batch")


if __name__ == "__main__":
    main()
