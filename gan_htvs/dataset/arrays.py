"""Importer of arrays in the layout published with Kim et al., ACS Cent. Sci. 2020, 6, 1412.

The supercells in the published array have scrambled species: repeating a cell interleaves the
elements, but the rows were written as if they were still sorted. Only the unit cells come in.
"""

from __future__ import annotations

import json
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gan_htvs.chemistry import spell_caps
from gan_htvs.dataset.sources import Collection, screen
from gan_htvs.errors import UserError
from gan_htvs.pointcloud import CELL_ROWS, decode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gan_htvs.chemistry import ChemicalSystem, OxidationRanges

PUBLISHED_ROWS, PUBLISHED_UNIT_CELLS = 2627, 1253
"""Rows of the array published for Mg-Mn-O, and how many of them, from the first, are unit cells."""

SCRAMBLED = "scrambled_supercell"
"""Reason for rejection beside those of :class:`gan_htvs.validity.RejectionReason`."""

SHIPPED = Path(__file__).with_name("mg-mn-o.npz")
"""RelaxedStructure Mg-Mn-O structures, written by ``gan-htvs dataset``; see docs/dataset.md."""
SHIPPED_CAPS = {"Mg": 8, "Mn": 8, "O": 12}
"""Their chemical system, in the order of the rows."""


@dataclass(frozen=True)
class ArrayFile:
    """The unit cells of an array file.

    Attributes
    ----------
    images
        (n, 2 + max_atoms, 3).
    n_supercells
        Number of images cut off.
    labels
        (n,): where each comes from.
    energies_above_hull
        (n,) eV/atom, or None if the file has none.
    """

    images: NDArray[np.float64]
    n_supercells: int
    labels: list[str]
    energies_above_hull: NDArray[np.float64] | None


_DAMAGES = (
    ArithmeticError,
    EOFError,
    RuntimeError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy raises for bytes that are no array."""


def read_array(path: Path, system: ChemicalSystem) -> ArrayFile:
    """Read an array file and cut off the supercells.

    Parameters
    ----------
    path
        A .npz file with ``images`` of shape (n, 2 + max_atoms, 3) and, if supercells follow the
        unit cells, ``n_unique``; or a .npy file with such an array alone. Files of ``gan-htvs
        dataset`` also have ``labels``, ``energy_above_hull`` and ``metadata``.
    system
        Elements and caps that the rows belong to.

    Raises
    ------
    UserError
        If the file is missing, of another format, shape or chemical system, or has values that
        are not finite.
    """
    arrays = _load(path)
    images = arrays["images"]
    expected = (CELL_ROWS + system.max_atoms, 3)
    if (caps := _caps(path, arrays)) is not None and caps != list(system.caps.items()):
        raise UserError(
            f"dataset.path {path}: holds structures of {spell_caps(caps)}, not of "
            f"{spell_caps(system.caps.items())}; set chemical_system.caps to those of the file."
        )
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
    default = PUBLISHED_UNIT_CELLS if len(images) == PUBLISHED_ROWS else len(images)
    n_unique = int(arrays.get("n_unique", default))
    if not 1 <= n_unique <= len(images):
        raise UserError(
            f"dataset.path {path}: n_unique is {n_unique}, but the file has {len(images)} images; "
            f"set it to the number of unit cells, 1 to {len(images)}."
        )
    labels = arrays.get("labels", np.array([f"{path.name} row {row}" for row in range(n_unique)]))
    energies = arrays.get("energy_above_hull", np.zeros(n_unique))
    for name, values in (("labels", labels), ("energy_above_hull", energies)):
        if values.ndim != 1 or len(values) < n_unique:
            raise UserError(
                f"dataset.path {path}: {name!r} has the shape {values.shape}, but there are "
                f"{n_unique} structures; export the file again."
            )
    if energies.dtype.kind not in "fiu" or not np.isfinite(energies).all():
        raise UserError(
            f"dataset.path {path}: 'energy_above_hull' holds values that are not finite numbers; "
            "export the file again."
        )
    has_energies = "energy_above_hull" in arrays
    return ArrayFile(
        images=images[:n_unique].astype(np.float64),
        n_supercells=len(images) - n_unique,
        labels=[str(label) for label in labels[:n_unique]],
        energies_above_hull=energies[:n_unique].astype(np.float64) if has_energies else None,
    )


def _load(path: Path) -> dict[str, NDArray]:
    """Read the arrays of a file; there are images among them."""
    try:
        loaded = np.load(path, allow_pickle=False)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"dataset.path {path}: cannot read the array file: {reason}.") from error
    except _DAMAGES as error:
        raise UserError(
            f"dataset.path {path}: no array file; give a .npz file with 'images' or a .npy file."
        ) from error
    if isinstance(loaded, np.ndarray):
        return {"images": loaded}
    with loaded:
        if "images" not in loaded:
            raise UserError(
                f"dataset.path {path}: has no array 'images', only "
                f"{', '.join(map(repr, loaded.files)) or 'nothing'}; rename the right one."
            )
        try:
            arrays = {name: loaded[name] for name in loaded.files}
            int(arrays.get("n_unique", 0))
        except (OSError, *_DAMAGES) as error:
            raise UserError(
                f"dataset.path {path}: 'images' or 'n_unique' is damaged or not numeric; export "
                "the file again."
            ) from error
    return arrays


def _caps(path: Path, arrays: dict[str, NDArray]) -> list[tuple[str, int]] | None:
    """Read for which chemical system a file was written, if it tells."""
    if "metadata" not in arrays:
        return None
    try:
        metadata = json.loads(str(arrays["metadata"]))
        return [(symbol, cap) for symbol, cap in metadata["caps"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"dataset.path {path}: 'metadata' is damaged; export the file again."
        ) from error


def import_array(
    path: Path, system: ChemicalSystem, oxidation_states: OxidationRanges
) -> Collection:
    """Take the sound unit cells of an array file; errors as in :func:`read_array`."""
    file = read_array(path, system)
    decoded = decode(file.images, system).to_structures()
    energies = file.energies_above_hull
    found = screen(
        zip(file.labels, decoded, strict=True),
        system,
        oxidation_states,
        energies_above_hull=None if energies is None else energies.tolist(),
    )
    if file.n_supercells:
        found.skipped.counts[SCRAMBLED] = file.n_supercells
    return found


def import_shipped(system: ChemicalSystem, oxidation_states: OxidationRanges) -> Collection:
    """Take the relaxed structures that come with the package.

    Raises
    ------
    UserError
        If the campaign is about another chemical system; errors of the file as in
        :func:`read_array`.
    """
    if list(system.caps.items()) != list(SHIPPED_CAPS.items()):
        raise UserError(
            f"dataset.source 'shipped' has no structures of {spell_caps(system.caps.items())}, "
            f"only of {spell_caps(SHIPPED_CAPS.items())}; use another source."
        )
    return import_array(SHIPPED, system, oxidation_states)
