"""Read and check INCAR, POSCAR, POTCAR and KPOINTS, and derive the k-points."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.io.vasp.inputs import (
    Incar,
    Kpoints,
    KpointsSupportedModes,
    Poscar,
    Potcar,
    UnknownPotcarWarning,
)
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from gan_htvs.core.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pymatgen.core import Structure

STATIC, RELAXATIONS = -1, frozenset({1, 2, 3})
"""Supported values of IBRION: static calculations and relaxations."""

MOVING = POSITIONS, POSITIONS_AND_CELL = 2, 3
"""Supported values of ISIF in relaxations."""

POLARIZED = 2
"""ISPIN of a spin-polarized calculation."""

FIXED_CHARGE = 10
"""With larger ICHARG, VASP reads the charge density from CHGCAR and keeps it fixed."""

SYMPREC = 1e-3
"""Tolerance of symmetry, A. VASP's default is 1e-5, but VASP symmetrizes forces, whereas the forces
of an interatomic potential have the noise of single precision."""


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
    incar = _read(folder, Incar)
    poscar = _read(folder, Poscar, check_for_potcar=False)
    potcar = _read(folder, Potcar)
    is_spaced = "KSPACING" in incar and not (folder / "KPOINTS").is_file()
    kpoints = None if is_spaced else _read(folder, Kpoints)
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


def _read(folder: Path, kind: Any, **options: Any) -> Any:
    """Read the file of a class of pymatgen, which is named after it."""
    name = kind.__name__.upper()
    try:
        with warnings.catch_warnings(action="ignore", category=UnknownPotcarWarning):
            return kind.from_file(folder / name, **options)
    except FileNotFoundError as error:
        raise UserError(f"{name}: not found.") from error
    except Exception as error:
        raise UserError(f"{name}: cannot be read: {error}") from error


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
        "GGA": "--",
        "AEXX": 0.25 if is_hybrid else 0.0,
        "AGGAX": 0.75 if is_hybrid else 1.0,
        "AGGAC": 1.0,
        "ALDAC": 1.0,
        "HFSCREEN": 0.0,
        "LWAVE": True,
        "LCHARG": True,
        **dict.fromkeys(("NSW", "LORBIT"), 0),
        **dict.fromkeys(("LASPH", "LDAU", "LHFCALC", "LNONCOLLINEAR", "LSORBIT"), False),
    }
    return defaults | {key: incar[key] for key in incar if key not in {"SYSTEM", "MAGMOM"}}


def _check(parameters: dict[str, Any], folder: Path) -> None:
    ibrion, isif = parameters["IBRION"], parameters["ISIF"]
    moves = ibrion != STATIC
    problems = {
        f"INCAR: IBRION = {ibrion} must be -1, 1, 2 or 3.": moves and ibrion not in RELAXATIONS,
        f"INCAR: ISIF = {isif} must be 2 or 3 in relaxations.": moves and isif not in MOVING,
        "INCAR: noncollinear magnetism is not supported; remove LNONCOLLINEAR.": (
            parameters["LNONCOLLINEAR"] or parameters["LSORBIT"]
        ),
        "INCAR: TOO FEW BANDS: NBANDS holds less than half of NELECT.": (
            2 * parameters["NBANDS"] < parameters["NELECT"]
        ),
        "CHGCAR: ERROR: charge density could not be read from file CHGCAR for ICHARG>10": (
            parameters["ICHARG"] > FIXED_CHARGE and not (folder / "CHGCAR").is_file()
        ),
    }
    for problem, is_present in problems.items():
        if is_present:
            raise UserError(problem)


def kpoints_of(
    structure: Structure, moments: NDArray[np.float64], incar: Incar, kpoints: Kpoints | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the k-points of a calculation; meshes are reduced by symmetry, as in VASP.

    Atoms whose initial moments differ in sign are not equivalent.

    Parameters
    ----------
    structure
        The crystal.
    moments
        Initial moments, Bohr magnetons, shape (n_atoms,).
    incar
        Contents of INCAR, with KSPACING and KGAMMA if KPOINTS does not exist.
    kpoints
        Contents of KPOINTS; None if it does not exist.

    Returns
    -------
    tuple
        Points in fractions of the reciprocal lattice vectors, shape (n_kpoints, 3), and weights
        with sum 1, shape (n_kpoints,).

    Raises
    ------
    UserError
        If the style of KPOINTS is not supported.
    """
    if kpoints is None:
        lengths = np.array(structure.lattice.reciprocal_lattice.abc)
        mesh = np.maximum(1, np.ceil(lengths / incar["KSPACING"] - 1e-9)).astype(int)
        style = "Gamma" if incar.get("KGAMMA", True) else "Monkhorst"
        kpoints = Kpoints(style=KpointsSupportedModes[style], kpts=[tuple(mesh)])
    points = np.array(kpoints.kpts, dtype=float).reshape(-1, 3)
    match kpoints.style:
        case KpointsSupportedModes.Gamma | KpointsSupportedModes.Monkhorst:
            is_centered = kpoints.style == KpointsSupportedModes.Gamma
            mesh = points[0].astype(int)
            shift = np.array(kpoints.kpts_shift) + (0 if is_centered else (mesh % 2 == 0) / 2)
            # Signs as oxidation states, because pymatgen ignores moments in reciprocal space.
            signed = structure.copy().add_oxidation_state_by_site(np.sign(moments).tolist())
            reduced = SpacegroupAnalyzer(signed, SYMPREC).get_ir_reciprocal_mesh(mesh, shift % 1)
            points, weights = map(np.array, zip(*reduced, strict=True))
        case KpointsSupportedModes.Line_mode:
            along = np.linspace(0, 1, kpoints.num_kpts)[:, None]
            lines = [a + along * (b - a) for a, b in zip(points[::2], points[1::2], strict=True)]
            points = np.concatenate(lines)
            weights = np.ones(len(points))
        case KpointsSupportedModes.Reciprocal:
            weights = np.array(kpoints.kpts_weights or np.ones(len(points)), dtype=float)
        case style:
            raise UserError(
                f"KPOINTS: the style {style.name} is not supported; use Gamma, Monkhorst-Pack, "
                "reciprocal coordinates or lines."
            )
    return points, weights / weights.sum()
