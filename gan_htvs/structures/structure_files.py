"""Reading of folders, archives and files of structures."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from gan_htvs.core.errors import UserError
from gan_htvs.core.text import join_names
from gan_htvs.structures.poscar import NoStructureFileError
from gan_htvs.structures.structure_formats import (
    FORMATS,
    ParsedStructure,
    parse_file,
)
from gan_htvs.structures.symmetry import without_properties
from gan_htvs.structures.validity import MIN_DISTANCE, check_cell, has_coinciding_atoms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pymatgen.core import Structure


@dataclass
class StructureFolder:
    """Structures of a folder.

    Attributes
    ----------
    structures
        By label: the path of the file within the folder, followed by ``#`` and a name or number if
        the file has several structures.
    skipped
        Reasons for skipping the other structures, by label.
    other_files
        Reasons why the remaining files are no structure files, by path.
    notes
        What was changed in a structure, by label.
    """

    structures: dict[str, Structure] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    other_files: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def source_notes(self) -> tuple[str, ...]:
        """Sentences on skipped files and structures, and on changed ones; empty: there are none."""
        sentences = [f"{label}: {note}." for label, note in self.notes.items()]
        if unread := self.skipped | self.other_files:
            what = (
                "1 structure or file" if len(unread) == 1 else f"{len(unread)} structures or files"
            )
            names = join_names([f"{label} ({reason})" for label, reason in unread.items()])
            verb = "was" if len(unread) == 1 else "were"
            sentences.insert(0, f"{what} of the user {verb} skipped: {names}.")
        return tuple(sentences)


def read_structures(path: Path, field: str = "structures.path") -> StructureFolder:
    """Read the structures of a folder and its subfolders, without reducing their cells.

    They have no site properties and oxidation states.

    Parameters
    ----------
    path
        Folder of structure files.
    field
        Setting that names the folder, for error messages.

    Raises
    ------
    UserError
        If the folder does not exist or has no structure file.
    """
    return _collect(parse_folder(path, field), unusable_reason)


def read_crystals(path: Path, field: str) -> StructureFolder:
    """Read the structures of a file, of a ZIP archive, or of a folder and its subfolders.

    Unlike in :func:`read_structures`, the geometry of the structures may be impossible.

    Parameters
    ----------
    path
        File with any number of structures, ZIP archive or folder.
    field
        Option that names it, for error messages.

    Raises
    ------
    UserError
        If it does not exist, cannot be read or has no structure.
    """
    if path.is_dir():
        parsed = list(parse_folder(path, field))
    elif not path.is_file():
        raise UserError(f"{field} {path}: does not exist; name a file or folder of structures.")
    elif zipfile.is_zipfile(path):
        with TemporaryDirectory() as folder:
            try:
                with zipfile.ZipFile(path) as archive:
                    archive.extractall(folder)
            except (zipfile.BadZipFile, OSError, RuntimeError) as error:
                raise UserError(
                    f"{field} {path}: the archive cannot be read ({error}); write it again."
                ) from error
            parsed = list(_parse_files(Path(folder)))
    else:
        parsed = list(_parsed(path, path.name))
    folder_of_crystals = _collect(parsed, _disorder)
    if not folder_of_crystals.structures:
        notes = " ".join(folder_of_crystals.source_notes)
        raise UserError(
            f"{field} {path}: contains no crystal ({FORMATS}); name another file or folder. {notes}"
        )
    return folder_of_crystals


def _disorder(structure: Structure) -> str | None:
    return None if structure.is_ordered else "its sites are partly occupied"


def _collect(
    parsed: Iterable[ParsedStructure], reason_against: Callable[[Structure], str | None]
) -> StructureFolder:
    folder = StructureFolder()
    for label, structure, note in parsed:
        if isinstance(structure, NoStructureFileError):
            folder.other_files[label] = str(structure)
        elif isinstance(structure, ValueError):
            folder.skipped[label] = str(structure)
        elif (reason := reason_against(structure)) is not None:
            folder.skipped[label] = reason
        else:
            folder.structures[label] = structure
            if note:
                folder.notes[label] = note
    return folder


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


def parse_folder(path: Path, field: str) -> Iterator[ParsedStructure]:
    """Parse every file of a folder and its subfolders, except hidden ones.

    Parameters
    ----------
    path
        Folder to read.
    field
        Setting that names the folder, for error messages.

    Yields
    ------
    Structures without site properties and oxidation states, or the reasons why they cannot be
    read, in the order of the labels. The reason of a file that is no structure file is a
    :class:`NoStructureFileError`.

    Raises
    ------
    UserError
        If the folder does not exist or has no structure file.
    """
    if not path.is_dir():
        raise UserError(f"{field} {path}: is not a folder; give a folder of structure files.")
    has_structure_file = False
    for parsed in _parse_files(path):
        has_structure_file |= not isinstance(parsed.structure, NoStructureFileError)
        yield parsed
    if not has_structure_file:
        raise UserError(
            f"{field} {path}: contains no structure file ({FORMATS}); add one or give another "
            "folder."
        )


def _parse_files(path: Path) -> Iterator[ParsedStructure]:
    """Parse the files of a folder; errors of things that are no files are included."""
    for name, file in sorted((str(f.relative_to(path)), f) for f in path.rglob("*")):
        is_folder = file.is_dir() and not file.is_symlink()
        if is_folder or any(part.startswith(".") for part in file.relative_to(path).parts):
            continue
        if file.is_file():
            yield from _parsed(file, name)
        else:
            reason = "it is no regular file, but a broken link, a link to a folder or a device"
            yield ParsedStructure(name, ValueError(reason))


def _parsed(file: Path, name: str) -> Iterator[ParsedStructure]:
    """Parse a file into structures without site properties and oxidation states."""
    for parsed in parse_file(file, name):
        structure = parsed.structure
        if not isinstance(structure, ValueError):
            try:
                structure = without_properties(structure)
            except Exception as error:  # noqa: BLE001 - pymatgen raises many types
                structure = ValueError(f"its species cannot be read ({error!s:.80})")
        yield parsed._replace(structure=structure)
