from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest

from gan_htvs.campaign.model import DatasetSettings
from gan_htvs.core.errors import UserError
from gan_htvs.dataset.arrays import (
    PUBLISHED_ROWS,
    PUBLISHED_UNIT_CELLS,
    SCRAMBLED,
    read_array,
)
from gan_htvs.dataset.sources import screen
from gan_htvs.dataset.training_set import build_dataset
from tests.helpers import MG_MN_O, OXIDATION_STATES

ROWS = 30


@pytest.fixture(scope="module")
def published() -> Path:
    shared = os.environ.get("GAN_HTVS_SHARED")
    folder = Path(shared) if shared else Path(__file__).resolve().parents[4] / "shared"
    for path in (folder / "mg_mn_o_arrays.npz", folder / "data" / "mg_mn_o_arrays.npz"):
        if path.exists():
            return path
    pytest.skip(f"the excerpt of the published array is not in {folder}; set GAN_HTVS_SHARED")


def image(counts=(1, 1, 2), length=4.3) -> np.ndarray:
    """Encode a rocksalt-like tetragonal MgMnO2 by hand, in the published layout."""
    rows = np.zeros((ROWS, 3), dtype=np.float32)
    rows[0] = np.array([length / np.sqrt(2), length / np.sqrt(2), length]) / 30
    rows[1] = 0.5
    sites = {0: [(0, 0, 0)], 8: [(0.5, 0.5, 0.5)], 16: [(0.5, 0.5, 0), (0, 0, 0.5)]}
    for (start, coords), n in zip(sites.items(), counts, strict=True):
        for k, xyz in enumerate(coords[:n]):
            rows[2 + start + k] = (10 * np.array(xyz) + 2.5) / 15
    return rows


def save(path: Path, images: np.ndarray, **extra) -> Path:
    np.savez(path, images=images, **extra)
    return path


def test_published_unit_cells_are_read_without_the_scrambled_supercells(published):
    collection = screen(read_array(published, MG_MN_O), MG_MN_O, OXIDATION_STATES)
    structures, rejected = collection.structures, collection.skipped.counts
    with np.load(published) as stored:
        n, n_unique = len(stored["images"]), int(stored["n_unique"])
    assert rejected[SCRAMBLED] == n - n_unique == 180
    assert len(structures) == n_unique - (sum(rejected.values()) - rejected[SCRAMBLED])
    assert len(structures) > 0.9 * n_unique
    assert max(int(label.rsplit(maxsplit=1)[1]) for label in collection.labels) < n_unique


def test_published_rows_are_unchanged_in_the_dataset(published):
    dataset = build_dataset(
        MG_MN_O, OXIDATION_STATES, DatasetSettings(source="array", path=published)
    )
    rows = [int(label.rsplit(maxsplit=1)[1]) for label in dataset.labels]
    with np.load(published) as stored:
        original = stored["images"][rows]
    np.testing.assert_allclose(dataset.images[:, :2], original[:, :2], atol=1e-5)
    np.testing.assert_array_equal(
        dataset.images[:, 2:].any(axis=2), original[:, 2:].sum(axis=2) > 0.4
    )
    assert dataset.images.dtype == np.float32
    assert dataset.summary()["rejected"][SCRAMBLED] == 180


def test_full_published_array_is_recognized_by_its_number_of_rows(tmp_path):
    path = tmp_path / "unique.npy"
    np.save(path, np.repeat(image()[None], PUBLISHED_ROWS, axis=0))
    collection = screen(read_array(path, MG_MN_O), MG_MN_O, OXIDATION_STATES)
    assert len(collection.structures) == PUBLISHED_UNIT_CELLS
    assert collection.skipped.by_reason == {SCRAMBLED: PUBLISHED_ROWS - PUBLISHED_UNIT_CELLS}


def test_invalid_rows_are_counted_by_reason(tmp_path):
    images = np.stack(
        [image(), image(counts=(0, 1, 2)), image(counts=(1, 1, 1)), image(length=1.9)]
    )
    path = save(tmp_path / "a.npz", images)
    collection = screen(read_array(path, MG_MN_O), MG_MN_O, OXIDATION_STATES)
    assert [structure.formula for structure in collection.structures] == ["Mg1 Mn1 O2"]
    assert collection.labels == ["a.npz row 0"]
    assert collection.skipped.labels[0] == "a.npz row 1 (empty element)"
    assert collection.skipped.by_reason == {
        "empty_element": 1,
        "charge_imbalance": 1,
        "bad_volume": 1,
    }


def test_max_structures_selects_evenly_over_compositions(tmp_path):
    manganese_rich = image(counts=(1, 1, 2))
    manganese_rich[2 + 9] = (10 * np.array([0.0, 0.5, 0.25]) + 2.5) / 15
    manganese_rich[2 + 18] = (10 * np.array([0.5, 0.0, 0.75]) + 2.5) / 15
    images = np.stack([image(), image(), image(), manganese_rich])
    images[:3, 0, 2] *= np.array([1.0, 1.5, 2.2])  # three ratios c/a
    path = save(tmp_path / "a.npz", images)
    settings = DatasetSettings(source="array", path=path, max_structures=2)
    dataset = build_dataset(MG_MN_O, OXIDATION_STATES, settings)
    assert dataset.n_compositions == 2
    assert dataset.summary()["rejected"] == {"max_structures": 2}


def test_first_of_matching_rows_is_kept(tmp_path):
    images = np.stack([image(length=length) for length in (4.2, 4.3, 4.4)])
    images[1, 0, 2] *= 1.5
    path = save(tmp_path / "a.npz", images, energy_above_hull=[0.1, 0.2, 0.0])
    dataset = build_dataset(MG_MN_O, OXIDATION_STATES, DatasetSettings(source="array", path=path))
    assert dataset.labels == ("a.npz row 0", "a.npz row 1")
    assert dataset.energies_above_hull.tolist() == [0.1, 0.2]
    assert dataset.skipped.by_reason == {"duplicate": 1}
    assert dataset.skipped.labels == [
        "a.npz row 2 (duplicate of a.npz row 0, RMS displacement 0.000 A)"
    ]


def test_rows_too_far_above_the_hull_are_skipped(tmp_path):
    images = np.stack([image(length=length) for length in (4.2, 4.3)])
    images[1, 0, 2] *= 1.5
    path = save(tmp_path / "a.npz", images, energy_above_hull=[0.1, 0.2])
    settings = DatasetSettings(source="array", path=path, max_energy_above_hull=0.15)
    dataset = build_dataset(MG_MN_O, OXIDATION_STATES, settings)
    assert dataset.labels == ("a.npz row 0",)
    assert dataset.skipped.labels == ["a.npz row 1 (too far above hull)"]
    lower = settings.model_copy(update={"max_energy_above_hull": 0.05})
    with pytest.raises(UserError, match="max_energy_above_hull"):
        build_dataset(MG_MN_O, OXIDATION_STATES, lower)


def test_energies_stay_with_their_structures(tmp_path):
    images = np.stack([image(length=4.2), image(length=1.9), image(length=4.4)])
    energies = np.array([0.01, 0.02, 0.03])
    path = save(tmp_path / "a.npz", images, energy_above_hull=energies, labels=["rocksalt"] * 3)
    collection = screen(read_array(path, MG_MN_O), MG_MN_O, OXIDATION_STATES)
    assert collection.labels == ["rocksalt", "rocksalt"]
    assert collection.energies_above_hull == [0.01, 0.03]


def write_garbage(path: Path) -> None:
    path.write_bytes(b"not an array")


def write_objects(path: Path) -> None:
    np.savez(path, images=np.array([{"a": 1}], dtype=object))


def write_not_finite(path: Path) -> None:
    images = image()[None].copy()
    images[0, 3, 1] = np.nan
    np.savez(path, images=images)


@pytest.mark.parametrize(
    ("write", "subject"),
    [
        (lambda path: None, "file"),
        (lambda path: path.write_bytes(b""), "file"),
        (write_garbage, "file"),
        (lambda path: path.write_bytes(b"PK\x03\x04 cut off"), "file"),
        (lambda path: np.savez(path, pictures=np.zeros(3)), "images"),
        (lambda path: np.savez(path, images=np.zeros((2, 26, 3))), r"\(2, 26, 3\)"),
        (lambda path: np.savez(path, images=np.zeros((0, ROWS, 3))), r"\(0, 30, 3\)"),
        (lambda path: np.savez(path, images=image()[None], n_unique=5), "n_unique"),
        (lambda path: np.savez(path, images=image()[None], n_unique="x"), "n_unique"),
        (lambda path: np.savez(path, images=image()[None], n_unique=np.inf), "n_unique"),
        (lambda path: np.savez(path, images=np.full((1, ROWS, 3), "x")), "images"),
        (lambda path: np.savez(path, images=image()[None], metadata="{"), "metadata"),
        (
            lambda path: np.savez(path, images=image()[None], metadata="[1]"),
            "metadata",
        ),
        (lambda path: np.savez(path, images=image()[None], labels=[]), "labels"),
        (
            lambda path: np.savez(path, images=image()[None], energy_above_hull=0.1),
            "energy_above_hull",
        ),
        (
            lambda path: np.savez(path, images=image()[None], energy_above_hull=[np.nan]),
            "energy_above_hull",
        ),
        (write_objects, "images"),
        (write_not_finite, "images"),
    ],
)
def test_invalid_file_is_a_user_error(tmp_path, write, subject):
    path = tmp_path / "array.npz"
    write(path)
    with pytest.raises(UserError, match=subject) as caught:
        screen(read_array(path, MG_MN_O), MG_MN_O, OXIDATION_STATES)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("step", [7, 11])
def test_flipped_bit_raises_nothing_but_a_user_error(tmp_path, step):
    path = tmp_path / "array.npz"
    np.savez_compressed(path, images=image()[None], n_unique=1)
    whole = path.read_bytes()
    for position in range(0, len(whole), step):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with contextlib.suppress(UserError):
            screen(read_array(path, MG_MN_O), MG_MN_O, OXIDATION_STATES)


def test_array_without_valid_structures_is_a_user_error(tmp_path):
    path = save(tmp_path / "a.npz", image(length=1.9)[None])
    with pytest.raises(UserError, match=r"dataset\.source"):
        build_dataset(MG_MN_O, OXIDATION_STATES, DatasetSettings(source="array", path=path))
