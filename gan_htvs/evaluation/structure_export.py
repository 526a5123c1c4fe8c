"""Files of structures that other benchmarks of generators read.

``mattergen-evaluate`` reads extended XYZ, ZIP archives of CIF files and folders; LeMat-GenBench
reads folders of CIF files.
"""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

from ase.io import write
from pymatgen.io.cif import CifWriter

from gan_htvs.core.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pymatgen.core import Structure

_DIGITS = 8
"""Significant digits in CIF files."""

_DATE = (1980, 1, 1, 0, 0, 0)
"""Time of the files in an archive, so that equal structures have equal archives."""


def export_structures(structures: Mapping[str, Structure], folder: Path, stem: str) -> list[Path]:
    """Write structures as ``<stem>.extxyz`` and as CIF files in ``<stem>.zip``, in equal order.

    Parameters
    ----------
    structures
        Structures by name, which is the name of the CIF file and the entry ``name`` of the frame.
    folder
        Created if it does not exist.
    stem
        Name of the files.

    Returns
    -------
    The two paths.

    Raises
    ------
    UserError
        If the folder is not writable.
    """
    frames = []
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as content:
        for name, structure in structures.items():
            atoms = structure.to_ase_atoms(msonable=False)
            atoms.info["name"] = name
            frames.append(atoms)
            entry = zipfile.ZipInfo(f"{name}.cif", _DATE)
            text = str(CifWriter(structure, significant_figures=_DIGITS))
            content.writestr(entry, text, zipfile.ZIP_DEFLATED)
    text_of_frames = io.StringIO()
    write(text_of_frames, frames, format="extxyz")
    paths = [folder / f"{stem}.extxyz", folder / f"{stem}.zip"]
    write_atomically(paths[0], text_of_frames.getvalue().encode())
    write_atomically(paths[1], archive.getvalue())
    return paths
