"""Crystals of one file in any format: CIF, POSCAR, extended XYZ, or JSON of pymatgen.

The format follows from the content, not from the name.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import warnings
import zlib
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pymatgen.core import DummySpecies, Lattice, Structure

from gan_htvs.structures.cif import parse_cif
from gan_htvs.structures.poscar import FLOAT, NoStructureFileError, parse_poscar
from gan_htvs.structures.validity import MAX_EDGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

FORMATS = "CIF, POSCAR, extended XYZ or JSON of pymatgen"
"""Formats, for messages."""

STRUCTURE_FILES = (
    *("*.cif", "*.mcif", "*.extxyz", "*.xyz", "*.vasp"),
    *("poscar*", "contcar*", "*poscar", "*contcar"),
)
"""Names of files that should have structures, case-insensitive and without ``.gz``."""

MAX_FRACTION = 100.0
"""Largest fractional coordinate of an atom."""

_HEAD = 2**16
"""Number of bytes from which the format follows."""

_CIF = re.compile(r"^[ \t]*data_\S[\s\S]*?^[ \t]*(?:loop_|_\w)", re.IGNORECASE | re.MULTILINE)
_XYZ = re.compile(
    r"\s*\d+[ \t]*\n(?:.*lattice\s*=|.*\n[ \t]*[A-Z]\w?(?:\s+-?[\d.]+){3})", re.IGNORECASE
)
_POSCAR = re.compile(
    rf".*\n[ \t]*{FLOAT}(?:[ \t]+{FLOAT}){{0,2}}[ \t]*(?:[!#].*)?\n"
    rf"(?:[ \t]*{FLOAT}[ \t]+{FLOAT}[ \t]+{FLOAT}.*\n){{3}}"
)


class ParsedStructure(NamedTuple):
    """A structure of a file, or the reason why it cannot be read."""

    label: str
    """Name of the file; with several structures followed by ``#`` and a name or number."""
    structure: Structure | ValueError
    """The structure, or the reason."""
    note: str = ""
    """What was changed, and warnings of libraries; empty if there are none."""


class _Item(NamedTuple):
    """A structure of a file before it has a label."""

    name: str
    structure: Structure | ValueError
    note: str = ""


def parse_file(path: Path, label: str) -> list[ParsedStructure]:
    """Parse all structures of a file, which may be compressed with gzip.

    Parameters
    ----------
    path
        File of any content.
    label
        Name of the file in the result.

    Returns
    -------
    At least one structure or reason. A file in none of the formats has one reason, a
    :class:`NoStructureFileError` unless its name is that of a structure file.
    """
    parse: Callable[[str], Iterator[_Item]] | None = None
    items: list[_Item] = []
    try:
        # Warnings are recorded here, because worker processes print none.
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            parse = _parser(_decode(_read(path, _HEAD)), path)
            items += parse(_decode(_read(path)))
    except NoStructureFileError as error:
        return [ParsedStructure(label, error)]
    except Exception as error:  # noqa: BLE001 - parsers raise many types
        items.append(_Item("", _reason(error)))
    items = [item._replace(structure=_checked(item.structure)) for item in items]
    messages = dict.fromkeys(str(warning.message).split("\n", 1)[0] for warning in caught)
    if parse is not _parse_cif and messages:
        items = [item._replace(note="; ".join(messages)) for item in items]
    return [
        ParsedStructure(name, item.structure, item.note)
        for name, item in zip(_labels(label, items), items, strict=True)
    ]


def _read(path: Path, n_bytes: int = -1) -> bytes:
    """Read a file, or its first bytes after decompression."""
    try:
        with path.open("rb") as file:
            is_compressed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not is_compressed:
                return file.read(n_bytes)
            with gzip.GzipFile(fileobj=file) as content:
                return content.read(n_bytes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"its compression is damaged ({error})") from error
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from error


def _decode(content: bytes) -> str:
    """Decode text with or without byte order mark; line ends become newlines."""
    marks = (
        *((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\0\0", "utf-32")),
        *((b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")),
    )
    encoding = next((name for mark, name in marks if content.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in content:
        # UTF-16 without a mark; other content with null bytes has no structure.
        encoding = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    text = content.decode(encoding, errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _parser(head: str, path: Path) -> Callable[[str], Iterator[_Item]]:
    """Return the parser for a file from its first lines.

    Raises
    ------
    NoStructureFileError
        If neither content nor name are those of a structure file.
    """
    if head.lstrip().startswith(("{", "[")):
        return _parse_json
    if _CIF.search(head):
        return _parse_cif
    if _XYZ.match(head):
        return _parse_extxyz
    if _POSCAR.match(head):
        return _parse_poscar
    name = path.name.lower().removesuffix(".gz")
    if not any(fnmatchcase(name, pattern) for pattern in STRUCTURE_FILES):
        raise NoStructureFileError(f"it is not {FORMATS}")
    if not head.strip():
        raise ValueError("it is empty")
    if name.endswith("cif"):
        raise ValueError("it has no CIF data block (data_)")
    return _parse_extxyz if name.endswith("xyz") else _parse_poscar


def _parse_cif(text: str) -> Iterator[_Item]:
    for block in parse_cif(text):
        yield _Item(block.name, block.structure, block.note)


def _parse_poscar(text: str) -> Iterator[_Item]:
    yield _Item("", parse_poscar(text))


def _parse_extxyz(text: str) -> Iterator[_Item]:
    from ase.io import read  # noqa: PLC0415 - slow

    lines = text.rstrip().split("\n")
    start = number = 0
    while start < len(lines):
        if not lines[start].strip():
            start += 1
            continue
        number += 1
        words = lines[start].split()
        if len(words) != 1 or not words[0].isdecimal():
            yield _Item(str(number), ValueError(f"line {start + 1} is not a number of atoms"))
            return
        n_atoms = int(words[0])
        frame = lines[start : start + 2 + n_atoms]
        if not n_atoms or len(frame) < 2 + n_atoms:
            reason = f"its header has {n_atoms} atoms, {max(len(frame) - 2, 0)} have lines"
            yield _Item(str(number), ValueError(reason))
            return
        structure: Structure | ValueError
        if "lattice" not in frame[1].lower():
            structure = ValueError("it has no lattice (Lattice=), so it is no crystal")
        else:
            try:
                atoms = read(io.StringIO("\n".join(frame) + "\n"), format="extxyz")
            except Exception as error:  # noqa: BLE001 - ASE raises many types
                structure = _reason(error)
            else:
                structure = _crystal_of(atoms)
        yield _Item(str(number), structure)
        start += 2 + n_atoms


def _crystal_of(atoms: Any) -> Structure | ValueError:
    if not atoms.pbc.all():
        return ValueError("it is not periodic in three dimensions (pbc)")
    if not atoms.numbers.all():
        return ValueError("X is not an element")
    return Structure(
        Lattice(atoms.cell.array),
        atoms.get_chemical_symbols(),
        atoms.positions,
        coords_are_cartesian=True,
    )


def _parse_json(text: str) -> Iterator[_Item]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NoStructureFileError("it is not JSON of pymatgen") from error
    if isinstance(document, dict) and not {"structure", "sites"} & document.keys():
        document = next(
            (document[key] for key in ("data", "structures") if key in document), document
        )
    if isinstance(document, list):
        entries = [(str(i), entry) for i, entry in enumerate(document, 1)]
    elif {"structure", "sites"} & document.keys():
        entries = [("", document)]
    else:
        entries = list(document.items())
    structures = [
        (name, entry.get("structure", entry)) if isinstance(entry, dict) else (name, {})
        for name, entry in entries
    ]
    if not any(isinstance(entry, dict) and "sites" in entry for _, entry in structures):
        raise NoStructureFileError("it is not JSON of pymatgen with structures")
    for name, entry in structures:
        try:
            yield _Item(name, Structure.from_dict(entry))
        except Exception as error:  # noqa: BLE001 - any content
            yield _Item(name, ValueError(f"it is no structure of pymatgen ({_reason(error)})"))


def _checked(structure: Structure | ValueError) -> Structure | ValueError:
    """Return a structure of elements, or the reason why it is none."""
    if isinstance(structure, ValueError):
        return structure
    if not len(structure):
        return ValueError("it has no atoms")
    if not max(structure.lattice.abc) <= MAX_EDGE:
        return ValueError(f"a lattice vector is longer than {MAX_EDGE:g} A")
    if not np.abs(structure.frac_coords).max() < MAX_FRACTION:
        return ValueError("its coordinates are not finite or far outside the cell")
    for species in structure.composition:
        if isinstance(species, DummySpecies):
            return ValueError(f"{species} is not an element")
    return structure


def _reason(error: Exception) -> ValueError:
    if type(error) is ValueError and str(error):
        return error
    message = str(error).split("\n", 1)[0]
    return ValueError(f"it does not parse: {(message or type(error).__name__)[:80]}")


def _labels(label: str, items: Sequence[_Item]) -> list[str]:
    """Return the labels of the structures of one file, which are unique."""
    if len(items) == 1:
        return [label]
    labels: list[str] = []
    for number, item in enumerate(items, 1):
        name = f"{label}#{item.name or number}"
        labels.append(name if name not in labels else f"{name} ({number})")
    return labels
