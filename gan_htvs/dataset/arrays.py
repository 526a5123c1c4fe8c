"""Importer of arrays in the layout published with Kim et al., ACS Cent. Sci. 2020, 6, 1412.

The supercells in the published array have scrambled species: repeating a cell interleaves the
elements, but the rows were written as if they were still sorted. Only the unit cells come in.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from gan_htvs.errors import UserError
from gan_htvs.pointcloud import CELL_ROWS, decode
from gan_htvs.validity import RejectionReason, check_geometry

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from gan_htvs.chemistry import ChemicalSystem, OxidationRanges

PUBLISHED_ROWS, PUBLISHED_UNIT_CELLS = 2627, 1253
"""Rows of the array published for Mg-Mn-O, and how many of them, from the first, are unit cells."""

SCRAMBLED = "scrambled_supercell"
"""Reason for rejection beside those of :class:`gan_htvs.validity.RejectionReason`."""


def read_images(path: Path, system: ChemicalSystem) -> tuple[NDArray[np.float64], int]:
    """Read an array file and cut off the supercells.

    Parameters
    ----------
    path
        A .npz file with ``images`` of shape (n, 2 + max_atoms, 3) and, if supercells follow the
        unit cells, ``n_unique``; or a .npy file with such an array alone.
    system
        Elements and caps that the rows belong to.

    Returns
    -------
    images
        (n_unit_cells, 2 + max_atoms, 3).
    n_supercells
        Number of images cut off.

    Raises
    ------
    UserError
        If the file is missing, of another format or shape, or has values that are not finite.
    """
    images, n_unique = _load(path)
    expected = (CELL_ROWS + system.max_atoms, 3)
    if images.shape[1:] != expected or not len(images):
        raise UserError(
            f"dataset.path {path}: found an array of shape {images.shape}, but the caps of "
            f"{system.chemsys} need (n, {expected[0]}, {expected[1]}); set chemical_system.caps to "
            "those of the file."
        )
    if images.dtype.kind not in "fiu" or not np.isfinite(images).all():
        raise UserError(
            f"dataset.path {path}: the images hold values that are not finite numbers; export "
            "the file again."
        )
    if n_unique is None:
        n_unique = PUBLISHED_UNIT_CELLS if len(images) == PUBLISHED_ROWS else len(images)
    if not 1 <= n_unique <= len(images):
        raise UserError(
            f"dataset.path {path}: n_unique is {n_unique}, but the file has {len(images)} images; "
            f"set it to the number of unit cells, 1 to {len(images)}."
        )
    return images[:n_unique].astype(np.float64), len(images) - n_unique


def _load(path: Path) -> tuple[NDArray, int | None]:
    """Read ``images`` and, where the file has it, ``n_unique``."""
    try:
        loaded = np.load(path, allow_pickle=False)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"dataset.path {path}: cannot read the array file: {reason}.") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"dataset.path {path}: no array file; give a .npz file with 'images' or a .npy file."
        ) from error
    if isinstance(loaded, np.ndarray):
        return loaded, None
    with loaded:
        if "images" not in loaded:
            raise UserError(
                f"dataset.path {path}: has no array 'images', only "
                f"{', '.join(map(repr, loaded.files)) or 'nothing'}; rename the right one."
            )
        try:
            images = loaded["images"]
            n_unique = int(loaded["n_unique"]) if "n_unique" in loaded else None
        except (ValueError, TypeError, zipfile.BadZipFile) as error:
            raise UserError(
                f"dataset.path {path}: 'images' or 'n_unique' is damaged or not numeric; export "
                "the file again."
            ) from error
    return images, n_unique


def import_array(
    path: Path, system: ChemicalSystem, oxidation_states: OxidationRanges
) -> tuple[list[Structure], list[str], Counter[str]]:
    """Take the sound unit cells of an array file.

    Parameters
    ----------
    path
        See :func:`read_images`.
    system, oxidation_states
        Elements, caps, and the average oxidation states that each element may have.

    Returns
    -------
    structures
        Decoded, in the order of the file.
    labels
        File name and row of each.
    rejected
        Number of rows left out, by reason.

    Raises
    ------
    UserError
        As in :func:`read_images`.
    """
    images, n_supercells = read_images(path, system)
    rejected: Counter[str] = Counter({SCRAMBLED: n_supercells} if n_supercells else {})
    structures: list[Structure] = []
    labels: list[str] = []
    for row, decoded in enumerate(decode(images, system).to_structures()):
        reason: RejectionReason | None
        if isinstance(decoded, RejectionReason):
            reason = decoded
        elif not system.is_charge_balanced(system.counts(decoded), oxidation_states):
            reason = RejectionReason.CHARGE_IMBALANCE
        else:
            reason = check_geometry(decoded)
        if reason is None:
            structures.append(decoded)
            labels.append(f"{path.name} row {row}")
        else:
            rejected[str(reason)] += 1
    return structures, labels, rejected
