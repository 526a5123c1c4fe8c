"""Read and check INCAR, POSCAR, POTCAR and KPOINTS."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.io.vasp.inputs import Incar, Kpoints, Poscar, Potcar, UnknownPotcarWarning

from gan_htvs.core.errors import UserError
from launchers.rehearsal.kmesh import kpoints_of

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

FIXED_CHARGE = 10
"""With larger ICHARG, VASP reads the charge density from CHGCAR and keeps it fixed."""


@dataclass(frozen=True)
class Inputs:
    """Inputs of a calculation.

    Attributes
    ----------
    incar
        Contents of INCAR.
    poscar
        Contents of POSCAR; sites in the order of MAGMOM.
    potcar
        One potential for each block of sites in POSCAR.
    points
        Irreducible k-points of a mesh, or the listed k-points, in fractions of the reciprocal
        lattice vectors, shape (n_kpoints, 3).
    weights
        Weights of the k-points, shape (n_kpoints,), sum 1; zero for points of band structures.
    moments
        Initial moments, Bohr magnetons, shape (n_atoms,); zeros if not spin-polarized.
    parameters
        Tags of INCAR with VASP's defaults.
    """

    incar: Incar
    poscar: Poscar
    potcar: Potcar
    points: NDArray[np.float64]
    weights: NDArray[np.float64]
    moments: NDArray[np.float64]
    parameters: dict[str, Any]

    @property
    def structure(self) -> Structure:
        """The crystal in POSCAR."""
        return self.poscar.structure

    @property
    def n_spins(self) -> int:
        """Number of spin channels, 1 or 2."""
        return 2 if self.parameters["ISPIN"] == POLARIZED else 1

    @property
    def n_ionic_steps(self) -> int:
        """NSW, or 1 in a static calculation."""
        return 1 if self.parameters["IBRION"] == STATIC else max(1, self.parameters["NSW"])

    @property
    def moves_cell(self) -> bool:
        """Whether the cell is relaxed."""
        parameters = self.parameters
        return parameters["IBRION"] != STATIC and parameters["ISIF"] == POSITIONS_AND_CELL


def read_inputs(folder: Path) -> Inputs:
    """Read and check the files of a calculation.

    Parameters
    ----------
    folder
        Folder with INCAR, POSCAR, POTCAR and, unless INCAR has KSPACING, KPOINTS.

    Raises
    ------
    UserError
        If VASP would reject the files, or the stand-in does not support them.
    """
    incar = _read(folder / "INCAR", Incar.from_file)
    poscar = _read(folder / "POSCAR", lambda path: Poscar.from_file(path, check_for_potcar=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownPotcarWarning)
        potcar = _read(folder / "POTCAR", Potcar.from_file)
    is_spaced = "KSPACING" in incar and not (folder / "KPOINTS").is_file()
    kpoints = None if is_spaced else _read(folder / "KPOINTS", Kpoints.from_file)
    elements = [single.element for single in potcar]
    if elements != list(poscar.site_symbols):
        raise UserError(
            f"POTCAR: has potentials of {' '.join(elements)}, but POSCAR has "
            f"{' '.join(poscar.site_symbols)}; ERROR: the type information on POSCAR and POTCAR "
            "are incompatible"
        )
    n_atoms = len(poscar.structure)
    is_polarized = incar.get("ISPIN", 1) == POLARIZED
    moments = np.array(incar.get("MAGMOM", np.ones(n_atoms)) if is_polarized else np.zeros(n_atoms))
    if moments.shape != (n_atoms,):
        raise UserError(
            f"INCAR: Error reading item 'MAGMOM' from file INCAR: {moments.size} numbers for "
            f"{n_atoms} atoms. Error code was IERR= 5"
        )
    parameters = _parameters(incar, poscar, potcar, moments)
    _check(parameters, folder)
    points, weights = kpoints_of(poscar.structure, moments, incar, kpoints)
    return Inputs(incar, poscar, potcar, points, weights, moments.astype(float), parameters)


def _read(path: Path, parse: Callable[[Path], Any]) -> Any:
    if not path.is_file():
        raise UserError(f"{path.name}: not found.")
    try:
        return parse(path)
    except Exception as error:
        raise UserError(f"{path.name}: cannot be read: {error}") from error


def _parameters(
    incar: Incar, poscar: Poscar, potcar: Potcar, moments: NDArray[np.float64]
) -> dict[str, Any]:
    """Return the tags of INCAR, and VASP's defaults of other tags that parsers need."""
    is_hybrid = bool(incar.get("LHFCALC", False))
    ediff = float(incar.get("EDIFF", 1e-4))
    n_electrons = float(np.dot(poscar.natoms, [single.ZVAL for single in potcar]))
    # Formula of VASP's source; see pymatgen's estimate_nbands.
    n_empty = max(len(moments) // 2, 3)
    n_bands = max(math.floor((n_electrons + 2) / 2) + n_empty, math.floor(0.6 * n_electrons))
    defaults = {
        "IBRION": STATIC if incar.get("NSW", 0) <= 0 else 0,
        "NSW": 0,
        "ISIF": POSITIONS,
        "EDIFF": ediff,
        "EDIFFG": 10 * ediff,
        "NELM": 60,
        "ENMAX": float(incar.get("ENCUT", max(single.ENMAX for single in potcar))),
        "NELECT": n_electrons,
        "NBANDS": n_bands + math.floor((moments.sum() + 1) / 2),
        "NEDOS": 301,
        "ICHARG": 2,
        "ISPIN": 1,
        "LORBIT": 0,
        "LDAU": False,
        "LASPH": False,
        "LHFCALC": False,
        "GGA": "--",
        "AEXX": 0.25 if is_hybrid else 0.0,
        "AGGAX": 0.75 if is_hybrid else 1.0,
        "AGGAC": 1.0,
        "ALDAC": 1.0,
        "HFSCREEN": 0.0,
        "LNONCOLLINEAR": False,
        "LSORBIT": False,
        "LWAVE": True,
        "LCHARG": True,
    }
    return defaults | {key: incar[key] for key in incar if key not in {"SYSTEM", "MAGMOM"}}


def _check(parameters: dict[str, Any], folder: Path) -> None:
    ibrion, isif = parameters["IBRION"], parameters["ISIF"]
    needs_charge = parameters["ICHARG"] > FIXED_CHARGE
    is_collinear = not (parameters["LNONCOLLINEAR"] or parameters["LSORBIT"])
    requirements = (
        (ibrion in RELAXATIONS | {STATIC}, f"INCAR: IBRION = {ibrion} must be -1, 1, 2 or 3."),
        (
            ibrion == STATIC or isif in {POSITIONS, POSITIONS_AND_CELL},
            f"INCAR: ISIF = {isif} must be 2 or 3 in relaxations.",
        ),
        (is_collinear, "INCAR: noncollinear magnetism is not supported; remove LNONCOLLINEAR."),
        (
            2 * parameters["NBANDS"] >= parameters["NELECT"],
            "INCAR: TOO FEW BANDS: NBANDS holds less than half of NELECT.",
        ),
        (
            not needs_charge or (folder / "CHGCAR").is_file(),
            "CHGCAR: ERROR: charge density could not be read from file CHGCAR for ICHARG>10",
        ),
    )
    for is_met, message in requirements:
        if not is_met:
            raise UserError(message)
