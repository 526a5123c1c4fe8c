"""Read and check INCAR, POSCAR, POTCAR and KPOINTS."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.io.vasp.inputs import Incar, Kpoints, Poscar, Potcar, UnknownPotcarWarning

from launchers.rehearsal.errors import InputError
from launchers.rehearsal.kmesh import KPoints, kpoints_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from pymatgen.core import Structure

STATIC, RELAXATIONS = -1, frozenset({1, 2, 3})
"""Supported values of IBRION: static calculations and relaxations."""

POSITIONS, POSITIONS_AND_CELL = 2, 3
"""Supported values of ISIF in relaxations."""

POLARIZED = 2
"""ISPIN of a spin-polarized calculation."""


@dataclass(frozen=True)
class Inputs:
    """Inputs of a calculation.

    Attributes
    ----------
    incar
        INCAR.
    poscar
        POSCAR; sites in the order of MAGMOM.
    potcar
        One potential for each block of sites in POSCAR.
    kpoints
        Irreducible k-points, or those that are listed.
    moments
        Initial moments, Bohr magnetons, shape (n_atoms,); zeros if not spin-polarized.
    """

    incar: Incar
    poscar: Poscar
    potcar: Potcar
    kpoints: KPoints
    moments: NDArray[np.float64]

    @property
    def structure(self) -> Structure:
        """The crystal in POSCAR."""
        return self.poscar.structure

    @property
    def is_polarized(self) -> bool:
        """Whether there are two spins."""
        return self.incar.get("ISPIN", 1) == POLARIZED

    @property
    def n_spins(self) -> int:
        """1 or 2."""
        return 2 if self.is_polarized else 1

    @property
    def is_hybrid(self) -> bool:
        """Whether there is exact exchange."""
        return bool(self.incar.get("LHFCALC", False))

    @property
    def n_ionic_steps(self) -> int:
        """NSW, or 1 if nothing moves."""
        return 1 if self.ibrion == STATIC else max(1, self.incar.get("NSW", 0))

    @property
    def ibrion(self) -> int:
        """IBRION or its default."""
        return STATIC if self.incar.get("NSW", 0) <= 0 else int(self.incar.get("IBRION", 0))

    @property
    def moves_cell(self) -> bool:
        """Whether the cell relaxes, too."""
        return self.ibrion != STATIC and self.incar.get("ISIF", POSITIONS) == POSITIONS_AND_CELL

    @property
    def nelm(self) -> int:
        """Most electronic steps in an ionic step."""
        return int(self.incar.get("NELM", 60))

    @property
    def ediff(self) -> float:
        """Energy change at which electrons are converged, eV."""
        return float(self.incar.get("EDIFF", 1e-4))

    @property
    def ediffg(self) -> float:
        """Energy change, eV, or if negative force, eV/A, at which ions are converged."""
        return float(self.incar.get("EDIFFG", 10 * self.ediff))

    @property
    def encut(self) -> float:
        """Cutoff of plane waves, eV."""
        return float(self.incar.get("ENCUT", max(single.ENMAX for single in self.potcar)))

    @property
    def n_electrons(self) -> float:
        """NELECT: of the neutral cell, or as written."""
        neutral = sum(
            count * single.ZVAL
            for count, single in zip(self.poscar.natoms, self.potcar, strict=True)
        )
        return float(self.incar.get("NELECT", neutral))

    @cached_property
    def n_bands(self) -> int:
        """NBANDS as written, or by the formula in VASP's source, see pymatgen's estimate_nbands."""
        if (written := self.incar.get("NBANDS")) is not None:
            return int(written)
        electrons = self.n_electrons
        empty = max(len(self.structure) // 2, 3)
        n_bands = max(math.floor((electrons + 2) / 2) + empty, math.floor(0.6 * electrons))
        if self.is_polarized:
            n_bands += math.floor(
                (sum(self.incar.get("MAGMOM", [1] * len(self.structure))) + 1) / 2
            )
        npar = int(self.incar.get("NPAR", 1))
        return (n_bands + npar - 1) // npar * npar


def read_inputs(folder: Path) -> Inputs:
    """Read and check the files of a calculation.

    Parameters
    ----------
    folder
        Folder with INCAR, POSCAR, POTCAR and, unless INCAR has KSPACING, KPOINTS.

    Raises
    ------
    InputError
        If VASP would reject them, or the stand-in does not support them.
    """
    incar = _read(folder, "INCAR", Incar.from_file)
    poscar = _read(folder, "POSCAR", lambda path: Poscar.from_file(path, check_for_potcar=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownPotcarWarning)
        potcar = _read(folder, "POTCAR", Potcar.from_file)
    kpoints = _read(folder, "KPOINTS", Kpoints.from_file) if _exists(folder, "KPOINTS") else None
    elements = [single.element for single in potcar]
    if elements != list(poscar.site_symbols):
        raise InputError(
            f"POTCAR: its potentials are of {' '.join(elements)}, and POSCAR has "
            f"{' '.join(poscar.site_symbols)}; ERROR: the type information on POSCAR and POTCAR "
            "are incompatible"
        )
    moments = _moments(incar, len(poscar.structure))
    mesh = kpoints_of(poscar.structure, moments, incar, kpoints)
    inputs = Inputs(incar, poscar, potcar, mesh, moments)
    _check(inputs, folder)
    return inputs


def _exists(folder: Path, name: str) -> bool:
    return (folder / name).is_file()


def _read(folder: Path, name: str, parse: Callable[[Path], Any]) -> Any:
    if not _exists(folder, name):
        raise InputError(f"{name}: there is no such file.")
    try:
        return parse(folder / name)
    except Exception as error:
        raise InputError(f"{name}: cannot be read: {error}") from error


def _moments(incar: Incar, n_atoms: int) -> NDArray[np.float64]:
    if incar.get("ISPIN", 1) != POLARIZED:
        return np.zeros(n_atoms)
    moments = np.asarray(incar.get("MAGMOM", np.ones(n_atoms)))
    if moments.shape != (n_atoms,):
        raise InputError(
            f"INCAR: Error reading item 'MAGMOM' from file INCAR: {moments.size} numbers for "
            f"{n_atoms} atoms. Error code was IERR= 5"
        )
    return moments.astype(float)


def _check(inputs: Inputs, folder: Path) -> None:
    incar = inputs.incar
    if inputs.ibrion not in RELAXATIONS | {STATIC}:
        raise InputError(f"INCAR: IBRION = {inputs.ibrion} is not supported; use -1, 1, 2 or 3.")
    isif = incar.get("ISIF", POSITIONS)
    if inputs.ibrion != STATIC and isif not in {POSITIONS, POSITIONS_AND_CELL}:
        raise InputError(f"INCAR: ISIF = {isif} is not supported in relaxations; use 2 or 3.")
    if incar.get("LNONCOLLINEAR") or incar.get("LSORBIT"):
        raise InputError("INCAR: noncollinear magnetism is not supported; remove LNONCOLLINEAR.")
    if 2 * inputs.n_bands < inputs.n_electrons:
        raise InputError("INCAR: TOO FEW BANDS: NBANDS holds less than half of NELECT.")
    if incar.get("ICHARG", 2) >= 10 and not _exists(folder, "CHGCAR"):  # noqa: PLR2004 - as VASP
        raise InputError(
            "CHGCAR: ERROR: charge density could not be read from file CHGCAR for ICHARG>10"
        )
