"""Import arrays in the layout published with Kim et al., ACS Cent. Sci. 2020, 6, 1412.

The supercells in the published array have scrambled species: repeating a cell interleaves the
elements, but the rows were written as if they were still sorted. Only the unit cells are used.
"""

from __future__ import annotations

import json
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gan_htvs.core.chemical_system import format_caps
from gan_htvs.core.errors import UserError
from gan_htvs.dataset.sources import Sample
from gan_htvs.structures.point_cloud import CELL_ROWS, decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gan_htvs.core.chemical_system import ChemicalSystem

PUBLISHED_ROWS, PUBLISHED_UNIT_CELLS = 2627, 1253
"""Number of rows in the published Mg-Mn-O array; the first ones are the unit cells."""

SCRAMBLED = "scrambled_supercell"
"""Rejection reason in addition to :class:`gan_htvs.structures.validity.RejectionReason`."""

SHIPPED = Path(__file__).with_name("mg-mn-o.npz")
"""Relaxed Mg-Mn-O structures, written by ``gan-htvs dataset``; see docs/dataset.md."""


def read_array(path: Path, system: ChemicalSystem, field: str = "dataset.path") -> Iterator[Sample]:
    """Read the unit cells of an array file; supercells yield a rejection reason.

    Parameters
    ----------
    path
        A .npz file with ``images`` of shape (n, 2 + max_atoms, 3) and, if supercells follow the
        unit cells, ``n_unique``; or a .npy file with the array alone. Files of ``gan-htvs
        dataset`` also contain ``labels``, ``energy_above_hull`` and ``metadata``.
    system
        Elements and caps of the rows.
    field
        Setting or option that names the file, for error messages.

    Raises
    ------
    UserError
        If the file is missing, has another format, shape or chemical system, or contains values
        that are not finite.
    """
    arrays, caps = _load(path, field)
    images = arrays["images"]
    expected = (CELL_ROWS + system.max_atoms, 3)
    use_caps = "set chemical_system.caps to those of the file or use another source"
    if caps is not None and caps != list(system.caps.items()):
        stored, expected_caps = format_caps(caps), format_caps(system.caps.items())
        raise _error(
            path, field, f"contains structures of {stored}, not of {expected_caps}", use_caps
        )
    if images.shape[1:] != expected or not len(images):
        problem = f"'images' has the shape {images.shape}, but the caps of {system.chemsys} need"
        raise _error(path, field, f"{problem} (n, {expected[0]}, {expected[1]})", use_caps)
    for name in {"images", "energy_above_hull"} & set(arrays):
        if arrays[name].dtype.kind not in "fiu" or not np.isfinite(arrays[name]).all():
            raise _error(path, field, f"{name!r} contains values that are not finite numbers")
    default = PUBLISHED_UNIT_CELLS if len(images) == PUBLISHED_ROWS else len(images)
    n_unique = int(arrays.get("n_unique", default))
    if not 1 <= n_unique <= len(images):
        problem = f"n_unique is {n_unique}, but the file has {len(images)} images"
        raise _error(
            path, field, problem, f"set it to the number of unit cells, 1 to {len(images)}"
        )
    for name in {"labels", "energy_above_hull"} & set(arrays):
        shape = arrays[name].shape
        if len(shape) != 1 or shape[0] < n_unique:
            problem = f"{name!r} has the shape {shape}, but the file has {n_unique} structures"
            raise _error(path, field, problem)
    labels = arrays.get("labels", [f"{path.name} row {row}" for row in range(n_unique)])
    decoded = decode(images[:n_unique].astype(np.float64), system).to_structures()
    energies = arrays.get("energy_above_hull")
    energy_of_row = np.full(n_unique, None) if energies is None else energies.astype(np.float64)
    yield from map(Sample, map(str, labels), decoded, energy_of_row.tolist())
    yield from repeat(Sample(None, SCRAMBLED), len(images) - n_unique)


def _load(path: Path, field: str) -> tuple[dict[str, NDArray], list[tuple[str, int]] | None]:
    """Read the arrays of a file, including images, and its caps, if stored."""
    try:
        loaded = np.load(path, allow_pickle=False)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{field} {path}: cannot read the array file: {reason}.") from error
    except Exception as error:  # NumPy raises many types for other files
        fix = "give a .npz file with 'images' or a .npy file"
        raise _error(path, field, "not an array file", fix) from error
    if isinstance(loaded, np.ndarray):
        return {"images": loaded}, None
    with loaded:
        if "images" not in loaded:
            names = ", ".join(map(repr, loaded.files)) or "nothing"
            raise _error(path, field, f"has no array 'images', only {names}", "rename the array")
        try:
            arrays = {name: loaded[name] for name in loaded.files}
            int(arrays.get("n_unique", 0))
            if "metadata" not in arrays:
                return arrays, None
            caps = json.loads(str(arrays["metadata"]))["caps"]
            return arrays, [(symbol, cap) for symbol, cap in caps]
        except Exception as error:  # as above
            problem = "'images', 'n_unique' or 'metadata' is damaged or not numeric"
            raise _error(path, field, problem) from error


def _error(path: Path, field: str, problem: str, fix: str = "export the file again") -> UserError:
    where = "dataset.source 'shipped'" if path == SHIPPED else f"{field} {path}"
    return UserError(f"{where}: {problem}; {fix}.")
