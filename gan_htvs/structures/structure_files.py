"""Reading of folders of CIF and POSCAR files."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pymatgen.core import Structure

from gan_htvs.core.errors import UserError
from gan_htvs.structures.symmetry import without_properties
from gan_htvs.structures.validity import MIN_DISTANCE, check_cell, has_coinciding_atoms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

STRUCTURE_FILES = ("*.cif", "poscar*", "contcar*", "*.poscar", "*.vasp")
"""File names that are read from a folder, case-insensitive."""


def read_structures(
    path: Path, field: str = "structures.path"
) -> tuple[dict[str, Structure], dict[str, str]]:
    """Read the structures of a folder and its subfolders, without reducing their cells.

    Parameters
    ----------
    path
        Folder of CIF and POSCAR files.
    field
        Setting that names the folder, for error messages.

    Returns
    -------
    structures
        By path of the file within the folder, without site properties and oxidation states.
    skipped
        Reasons for skipping the other files, by path.

    Raises
    ------
    UserError
        If the folder does not exist or has no structure file.
    """
    structures: dict[str, Structure] = {}
    skipped: dict[str, str] = {}
    for name, parsed in parse_folder(path, field):
        if isinstance(parsed, ValueError):
            skipped[name] = str(parsed)
        elif (reason := unusable_reason(parsed)) is not None:
            skipped[name] = reason
        else:
            structures[name] = parsed
    return structures, skipped


def unusable_reason(structure: Structure) -> str | None:
    """Return the reason why a structure cannot be computed, or None."""
    if not len(structure):
        return "it has no atoms"
    if not structure.is_ordered:
        return "its sites are partly occupied"
    if (reason := check_cell(structure)) is not None:
        return str(reason)
    if has_coinciding_atoms(structure):
        return f"two of its atoms are closer than {MIN_DISTANCE:g} A"
    return None


def parse_folder(
    path: Path, field: str, prepare: Callable[[Structure], Structure] = without_properties
) -> Iterator[tuple[str, Structure | ValueError]]:
    """Read every CIF and POSCAR file of a folder and its subfolders.

    Parameters
    ----------
    path
        Folder to read.
    field
        Setting that names the folder, for error messages.
    prepare
        Applied to every structure.

    Yields
    ------
    Path of the file within the folder, and its structure, or the error of a file that does not
    parse.

    Raises
    ------
    UserError
        If the folder does not exist or has no structure file.
    """
    if not path.is_dir():
        raise UserError(f"{field} {path}: is not a folder; give a folder of CIF or POSCAR files.")
    files = sorted(file for file in path.rglob("*") if _is_structure_file(file))
    if not files:
        raise UserError(
            f"{field} {path}: contains no structure file ({', '.join(STRUCTURE_FILES)}); add "
            "one or give another folder."
        )
    for file in files:
        parsed: Structure | ValueError
        try:
            parsed = prepare(Structure.from_file(file))
        except Exception as error:  # noqa: BLE001 - parsers raise many types
            message = str(error).splitlines() or [type(error).__name__]
            parsed = ValueError(f"does not parse: {message[0]:.80}")
        yield str(file.relative_to(path)), parsed


def _is_structure_file(path: Path) -> bool:
    name = path.name.lower()
    return any(fnmatchcase(name, pattern) for pattern in STRUCTURE_FILES) and path.is_file()
