"""Export of candidate structures in standard formats, with a manifest."""

from __future__ import annotations

import csv
import hashlib
import io
import json
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
    "decomposition_energy_eV_per_atom": "decomposition_energy",
    "uncovered_subsystems": "uncovered_subsystems",
    "energy_incomplete": "energy_incomplete",
    "band_gap_eV": "band_gap",
    "incomplete_band_gap_eV": "incomplete_band_gap",
    "band_gap_reason": "band_gap_reason",
    "band_gap_method": "band_gap_method",
}
"""Columns of the manifest and the candidate fields that they hold."""

EXPORT_FIELDS = (
    *(*_COLUMNS.values(), "generated_structure", "structure", "pourbaix"),
    *("symmetry", "tight_symmetry"),
)
"""Candidate fields that an export needs."""

MANIFEST = "manifest.csv"
MAX_NAME_LENGTH = 60
"""Maximum number of characters of a formula, and of an id, in a file name."""


class StructureFormat(StrEnum):
    """Structure file formats."""

    CIF = "cif"
    POSCAR = "poscar"
    EXTXYZ = "extxyz"


def structure_text(candidate: Candidate, structure_format: StructureFormat) -> str:
    """Return the relaxed structure of a candidate, or the generated one, as file contents.

    CIF files have the space group at a tolerance of 0.01 A, and its conventional cell. In extxyz
    files, ``energy`` is the total energy with corrections, eV, from which ASE makes a calculator.
    """
    structure = (candidate.structure or candidate.generated_structure).get_sorted_structure()
    if structure_format is StructureFormat.POSCAR:
        comment = f"{candidate.formula_pretty} {candidate.candidate_id}"
        return str(structure.to(fmt="poscar", comment=comment))
    if structure_format is StructureFormat.CIF:
        from gan_htvs.structures.symmetry import TIGHT_SYMPREC  # noqa: PLC0415 - slow

        symmetry = candidate.tight_symmetry
        is_symmetric = symmetry is not None and symmetry.number not in (None, 1)
        return str(structure.to(fmt="cif", symprec=TIGHT_SYMPREC if is_symmetric else None))
    from ase.calculators.singlepoint import SinglePointCalculator  # noqa: PLC0415 - slow
    from ase.io.extxyz import write_extxyz  # noqa: PLC0415 - slow
    from pymatgen.io.ase import AseAtomsAdaptor  # noqa: PLC0415 - slow

    atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
    atoms.info = {
        key: _ase_text(value) if isinstance(value, str) else value
        for key, value in _manifest_fields(candidate).items()
        if value is not None
    }
    if candidate.structure is not None and candidate.energy_per_atom is not None:
        energy = candidate.energy_per_atom * len(atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
    text = io.StringIO()
    write_extxyz(text, [atoms])
    return text.getvalue()


def _ase_text(text: str) -> str:
    """Return text for ``Atoms.info``, as JSON unless ASE reads the text itself back unchanged.

    Quotation marks have no effect on how ASE reads ``InF``, ``F`` or ``2024``: as infinity, a truth
    value and a number. ASE marks JSON with the prefix ``_JSON``.
    """
    from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict  # noqa: PLC0415 - slow

    if text.isprintable() and not text.startswith("_JSON"):
        read = key_val_str_to_dict(key_val_dict_to_str({"text": text}))["text"]
        if isinstance(read, str) and read == text:
            return text
    # ASE removes backslashes when it reads, but does not add them when it writes.
    return f"_JSON {json.dumps(text)}".replace("\\", "\\\\")


def file_name(candidate: Candidate, structure_format: StructureFormat) -> str:
    """Return a safe file name for a candidate: no path separators, no leading dot."""
    formula, name = (
        re.sub(r"[^A-Za-z0-9_-]", "_", text)[:MAX_NAME_LENGTH]
        for text in (candidate.formula_pretty, candidate.candidate_id)
    )
    extension = "vasp" if structure_format is StructureFormat.POSCAR else structure_format
    return f"{formula}_{name}.{extension}"


def export_structures(
    candidates: Iterable[Candidate], folder: Path, structure_format: StructureFormat
) -> list[Path]:
    """Write a file for each candidate, and ``manifest.csv`` with their properties and sha256.

    Files of the same name are replaced. Manifest rows of other files that still exist are kept.

    Returns
    -------
    Paths of the files; the manifest is last.

    Raises
    ------
    UserError
        If the folder is not writable, or its ``manifest.csv`` was not written by an export.
    """
    manifest = folder / MANIFEST
    rows: dict[str, dict[str, Any]] = {row["file"]: row for row in _existing_rows(manifest)}
    paths = []
    for candidate in candidates:
        data = structure_text(candidate, structure_format).encode()
        path = folder / file_name(candidate, structure_format)
        write_atomically(path, data)
        paths.append(path)
        digest = hashlib.sha256(data).hexdigest()
        rows[path.name] = {"file": path.name, "sha256": digest} | _manifest_fields(candidate)
    if paths:
        text = io.StringIO()
        # The line terminator of the module, \r\n, makes it quote text with either character.
        writer = csv.DictWriter(text, list(rows[paths[0].name]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows.values())
        write_atomically(manifest, text.getvalue().encode())
        paths.append(manifest)
    return paths


def _existing_rows(manifest: Path) -> Iterator[dict[str, str]]:
    """Read the manifest rows of files that still exist."""
    if not manifest.exists():
        return
    with manifest.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        if not {"file", "sha256"} <= set(reader.fieldnames or ()):
            raise UserError(f"{manifest} was not written by an export; choose another folder.")
        for row in reader:
            if (manifest.parent / row["file"]).exists():
                yield row


def _manifest_fields(candidate: Candidate) -> dict[str, Any]:
    fields = {column: getattr(candidate, field) for column, field in _COLUMNS.items()}
    pourbaix, symmetry, tight = candidate.pourbaix, candidate.symmetry, candidate.tight_symmetry
    return fields | {
        "space_group_0.1_A": symmetry and symmetry.symbol,
        "space_group_0.01_A": tight and tight.symbol,
        "stage": candidate.stage,
        "is_relaxed": candidate.structure is not None,
        "uncovered_subsystems": ", ".join(candidate.uncovered_subsystems or ()) or None,
        "pourbaix_min_eV_per_atom": None if pourbaix is None else pourbaix.minimum,
    }
