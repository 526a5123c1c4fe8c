"""Structures of candidates as files that other programs read, with a manifest of what they are."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from gan_htvs.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pymatgen.core import Structure

    from gan_htvs.candidate import Candidate

EXPORT_FIELDS = (
    "candidate_id",
    "campaign",
    "formula_pretty",
    "stage",
    "generated_structure",
    "structure",
    "level_of_theory",
    "energy_per_atom",
    "energy_above_hull",
    "pourbaix",
    "band_gap",
    "band_gap_method",
)
"""Fields of a candidate that an export is made of."""

MANIFEST = "manifest.csv"


class StructureFormat(StrEnum):
    """Formats of structure files."""

    CIF = "cif"
    POSCAR = "poscar"
    EXTXYZ = "extxyz"


def structure_text(candidate: Candidate, form: StructureFormat) -> str:
    """Write the structure of a candidate: relaxed, or as it was generated if that is all."""
    return _WRITERS[form](candidate)


def file_name(candidate: Candidate, form: StructureFormat) -> str:
    """Name the file of a candidate, whatever is in its document: no folder, nothing hidden."""
    stem = f"{candidate.formula_pretty}_{candidate.candidate_id}"
    return re.sub(r"[^A-Za-z0-9_-]", "_", stem)[:100] + _SUFFIXES[form]


def export_structures(
    candidates: Iterable[Candidate], folder: Path, form: StructureFormat
) -> list[Path]:
    """Write a file for each candidate, and ``manifest.csv``: what each file is, and its sha256.

    What is there already under the same names is replaced.

    Returns
    -------
    The files, the manifest last.

    Raises
    ------
    UserError
        If the folder cannot be written.
    """
    paths, rows = [], []
    for candidate in candidates:
        data = structure_text(candidate, form).encode()
        path = folder / file_name(candidate, form)
        write_atomically(path, data)
        paths.append(path)
        rows.append(
            {"file": path.name, "sha256": hashlib.sha256(data).hexdigest()} | _facts(candidate)
        )
    if rows:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(folder / MANIFEST, text.getvalue().encode())
        paths.append(folder / MANIFEST)
    return paths


def _structure(candidate: Candidate) -> Structure:
    structure = candidate.structure or candidate.generated_structure
    return structure.get_sorted_structure()


def _facts(candidate: Candidate) -> dict[str, Any]:
    pourbaix = candidate.pourbaix
    return {
        "candidate_id": candidate.candidate_id,
        "campaign": candidate.campaign,
        "formula": candidate.formula_pretty,
        "stage": candidate.stage.value,
        "is_relaxed": candidate.structure is not None,
        "level_of_theory": candidate.level_of_theory,
        "energy_per_atom_eV": candidate.energy_per_atom,
        "energy_above_hull_eV_per_atom": candidate.energy_above_hull,
        "pourbaix_min_eV_per_atom": None if pourbaix is None else pourbaix.minimum,
        "band_gap_eV": candidate.band_gap,
        "band_gap_method": candidate.band_gap_method,
    }


def _cif(candidate: Candidate) -> str:
    return str(_structure(candidate).to(fmt="cif"))


def _poscar(candidate: Candidate) -> str:
    from pymatgen.io.vasp import Poscar  # noqa: PLC0415 - seconds

    comment = f"{candidate.formula_pretty} {candidate.candidate_id}"
    return Poscar(_structure(candidate), comment).get_str(significant_figures=10)


def _extxyz(candidate: Candidate) -> str:
    from ase.io.extxyz import write_extxyz  # noqa: PLC0415 - slow
    from pymatgen.io.ase import AseAtomsAdaptor  # noqa: PLC0415 - the same

    atoms = AseAtomsAdaptor.get_atoms(_structure(candidate), msonable=False)
    atoms.info = {key: value for key, value in _facts(candidate).items() if value is not None}
    text = io.StringIO()
    write_extxyz(text, [atoms])
    return text.getvalue()


_SUFFIXES = {
    StructureFormat.CIF: ".cif",
    StructureFormat.POSCAR: ".vasp",
    StructureFormat.EXTXYZ: ".extxyz",
}

_WRITERS: dict[StructureFormat, Callable[[Candidate], str]] = {
    StructureFormat.CIF: _cif,
    StructureFormat.POSCAR: _poscar,
    StructureFormat.EXTXYZ: _extxyz,
}
