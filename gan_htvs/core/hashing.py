"""Content hashes: equal inputs have equal hashes on every machine."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pymatgen.core import Structure

from gan_htvs.core.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://pypi.org/project/gan-htvs/")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Structure):
        return {
            "lattice": _rounded(value.lattice.matrix).tolist(),
            "species": [site.species_string for site in value],
            "coords": _rounded(_rounded(value.frac_coords) % 1).tolist(),
        }
    raise TypeError(f"no content hash for {type(value).__name__}")


def _rounded(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to 1e-6 and convert -0.0 to 0.0, whose JSON differs."""
    return numbers.round(6) + 0.0


def content_hash(*parts: Any) -> str:
    """Hash settings, structures and plain values to 32 hexadecimal digits.

    Coordinates are rounded to 1e-6 and taken modulo 1, so neither a database round trip nor the
    rounding errors of another processor change the hash.
    """
    text = json.dumps(parts, default=_plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def content_uuid(*parts: Any) -> str:
    """Compute the UUID of a job from its inputs, so that equal jobs are queued once."""
    return str(uuid.uuid5(_NAMESPACE, content_hash(*parts)))


def hash_of_path(path: Path) -> str:
    """Hash a file, or the names and contents of all files in a folder, with SHA-256."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    contents = [[str(file.relative_to(path)), hash_of_path(file)] for file in files]
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()


def checked_hash(path: Path, sha256: str | None, field: str) -> str:
    """Hash a file or folder that a setting names.

    Raises
    ------
    UserError
        If ``sha256`` is another hash.
    """
    current = hash_of_path(path)
    if sha256 not in (None, current):
        raise UserError(f"{field} {path}: has the hash {current}, not {sha256}; restore it.")
    return current
