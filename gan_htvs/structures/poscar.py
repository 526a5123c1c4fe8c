"""Crystals of POSCAR files, whose header and atoms must agree."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from pymatgen.core import Element
from pymatgen.io.vasp.inputs import Poscar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure

FLOAT = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?"
"""Pattern of a number of Fortran."""

_FIRST_COUNTS = 5
"""Line of the numbers of atoms in the format of VASP 4, and of the symbols in later ones."""


class NoStructureFileError(ValueError):
    """A file has no crystal to read, and its name promises none."""


class _Layout(NamedTuple):
    """Parts of a POSCAR, as words."""

    symbols: list[str]
    """Symbols before the numbers of atoms; empty in the format of VASP 4."""
    counts: list[int]
    mode: str
    """Line before the atoms."""
    atoms: list[list[str]]
    after: list[str]
    """First line after the atoms that is not empty."""


def parse_poscar(text: str) -> Structure:
    """Parse a POSCAR.

    Raises
    ------
    NoStructureFileError
        If it is a trajectory or a grid in files of VASP that begin like a POSCAR.
    ValueError
        If it names no elements, or header and atoms contradict each other.
    """
    layout = _layout(text)
    if re.match(r"\s*direct.*=", layout.mode, re.IGNORECASE):
        raise NoStructureFileError("it is a trajectory (XDATCAR)")
    if len(layout.after) == 3 and all(word.isdecimal() for word in layout.after):  # noqa: PLR2004
        raise NoStructureFileError("it is a grid of VASP, such as a charge density")
    if not layout.counts or layout.mode.strip()[:1] not in tuple("cCkKdD"):
        raise ValueError("its lines are not those of a POSCAR file")
    _check(layout)
    return Poscar.from_str(text, read_velocities=False).structure


def _layout(text: str) -> _Layout:
    lines = [re.split("[!#]", line)[0] for line in text.split("\n")]
    words = [line.split() for line in lines]
    start = _FIRST_COUNTS
    symbols: list[str] = []
    while start < len(words) and words[start] and not words[start][0].isdecimal():
        # VASP 6 writes the potential after the symbol: Mg_pv/f474ac0d
        symbols += [word.split("/")[0].split("_")[0] for word in words[start]]
        start += 1
    end = start + max(start - _FIRST_COUNTS, 1)
    counts = [int(word) for line in words[start:end] for word in line if word.isdecimal()]
    if "".join(lines[end : end + 1]).strip()[:1] in ("s", "S"):  # selective dynamics
        end += 1
    atoms = []
    for line in words[end + 1 :]:
        if not _is_position(line):
            break
        atoms.append(line)
    after = next((line for line in words[end + 1 + len(atoms) :] if line), [])
    return _Layout(symbols, counts, "".join(lines[end : end + 1]), atoms, after)


def _is_position(words: Sequence[str]) -> bool:
    return len(words) > 2 and all(re.fullmatch(FLOAT, word) for word in words[:3])  # noqa: PLR2004


def _check(layout: _Layout) -> None:
    """Raise a ValueError if parts of a POSCAR are missing or contradict each other."""
    symbols, counts = layout.symbols, layout.counts
    if len(layout.atoms) != sum(counts):
        raise ValueError(
            f"its header has {sum(counts)} atoms, its coordinates are those of {len(layout.atoms)}"
        )
    own_symbols = [_symbol_after(atom) for atom in layout.atoms]
    if not symbols:
        if not all(own_symbols):
            raise ValueError(
                "it names no elements (VASP 4 format): put a line with the symbols before the "
                "numbers of atoms"
            )
        return
    if len(symbols) != len(counts):
        raise ValueError(f"it has {len(symbols)} symbols, but {len(counts)} numbers of atoms")
    expected = [symbol for symbol, n in zip(symbols, counts, strict=True) for _ in range(n)]
    for number, pair in enumerate(zip(expected, own_symbols, strict=True), 1):
        if pair[1] not in (None, pair[0]):
            raise ValueError(f"atom {number} is {pair[0]} in the header, {pair[1]} in its line")


def _symbol_after(words: Sequence[str]) -> str | None:
    """Return the element after the coordinates of an atom, or None."""
    rest = [word for word in words[3:] if word.upper() not in ("T", "F", ".TRUE.", ".FALSE.")]
    return rest[0] if rest and Element.is_valid_symbol(rest[0]) else None
