"""Structures of candidates as files that other programs read, with a manifest of what they are."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from gan_htvs.core.errors import UserError
from gan_htvs.core.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from gan_htvs.core.candidate import Candidate

_COLUMNS = {
    "candidate_id": "candidate_id",
    "campaign": "campaign",
    "formula": "formula_pretty",
    "stage": "stage",
    "level_of_theory": "level_of_theory",
    "energy_per_atom_eV": "energy_per_atom",
    "energy_above_hull_eV_per_atom": "energy_above_hull",
    "energy_incomplete": "energy_incomplete",
    "band_gap_eV": "band_gap",
    "incomplete_band_gap_eV": "incomplete_band_gap",
    "band_gap_reason": "band_gap_reason",
    "band_gap_method": "band_gap_method",
}
"""Fields of a candidate by their columns in the manifest."""

EXPORT_FIELDS = (*_COLUMNS.values(), "generated_structure", "structure", "pourbaix")
"""Fields of a candidate that an export is made of."""

MANIFEST = "manifest.csv"
LONGEST = 60
"""Characters of a formula, and of an id, in the name of a file."""


class StructureFormat(StrEnum):
    """Formats of structure files."""

    CIF = "cif"
    POSCAR = "poscar"
    EXTXYZ = "extxyz"


def structure_text(candidate: Candidate, form: StructureFormat) -> str:
    """Write the structure of a candidate: relaxed, or as it was generated if that is all."""
    structure = (candidate.structure or candidate.generated_structure).get_sorted_structure()
    if form is StructureFormat.POSCAR:
        comment = f"{candidate.formula_pretty} {candidate.candidate_id}"
        return str(structure.to(fmt="poscar", comment=comment))
    if form is StructureFormat.CIF:
        return str(structure.to(fmt="cif"))
    from ase.io.extxyz import write_extxyz  # noqa: PLC0415 - slow
    from pymatgen.io.ase import AseAtomsAdaptor  # noqa: PLC0415 - the same

    atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
    atoms.info = {key: value for key, value in _facts(candidate).items() if value is not None}
    text = io.StringIO()
    write_extxyz(text, [atoms])
    return text.getvalue()


def file_name(candidate: Candidate, form: StructureFormat) -> str:
    """Name the file of a candidate, whatever is in its document: no folder, nothing hidden."""
    formula, name = (
        re.sub(r"[^A-Za-z0-9_-]", "_", text)[:LONGEST]
        for text in (candidate.formula_pretty, candidate.candidate_id)
    )
    return f"{formula}_{name}.{'vasp' if form is StructureFormat.POSCAR else form}"


def export_structures(
    candidates: Iterable[Candidate], folder: Path, form: StructureFormat
) -> list[Path]:
    """Write a file for each candidate, and ``manifest.csv``: what each file is, and its sha256.

    What is there already under the same names is replaced; what the manifest tells of other files
    that are still there stays in it.

    Returns
    -------
    The files, the manifest last.

    Raises
    ------
    UserError
        If the folder cannot be written, or has a ``manifest.csv`` of somebody else.
    """
    manifest = folder / MANIFEST
    rows: dict[str, dict[str, Any]] = {row["file"]: row for row in _described(manifest)}
    paths = []
    for candidate in candidates:
        data = structure_text(candidate, form).encode()
        path = folder / file_name(candidate, form)
        write_atomically(path, data)
        paths.append(path)
        digest = hashlib.sha256(data).hexdigest()
        rows[path.name] = {"file": path.name, "sha256": digest} | _facts(candidate)
    if paths:
        text = io.StringIO()
        writer = csv.DictWriter(
            text, list(rows[paths[0].name]), extrasaction="ignore", lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(rows.values())
        write_atomically(manifest, text.getvalue().encode())
        paths.append(manifest)
    return paths


def _described(manifest: Path) -> Iterator[dict[str, str]]:
    """Read what a manifest tells of files that are still there."""
    if not manifest.exists():
        return
    with manifest.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        if not {"file", "sha256"} <= set(reader.fieldnames or ()):
            raise UserError(f"{manifest}: was not written by an export; choose another folder.")
        for row in reader:
            if (manifest.parent / row["file"]).exists():
                yield row


def _facts(candidate: Candidate) -> dict[str, Any]:
    facts = {column: getattr(candidate, field) for column, field in _COLUMNS.items()}
    pourbaix = candidate.pourbaix
    return facts | {
        "stage": candidate.stage.value,
        "is_relaxed": candidate.structure is not None,
        "pourbaix_min_eV_per_atom": None if pourbaix is None else pourbaix.minimum,
    }
