"""K-points of a calculation, from KPOINTS or KSPACING."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import spglib
from pymatgen.io.vasp.inputs import KpointsSupportedModes

from launchers.rehearsal.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.core import Structure
    from pymatgen.io.vasp.inputs import Incar, Kpoints

SYMPREC = 1e-3
"""Distance within which atoms are symmetric, A. VASP's default is 1e-5, but it makes forces
symmetric, and those of an interatomic potential carry the noise of single precision."""


@dataclass(frozen=True)
class KPoints:
    """Points of the Brillouin zone.

    Attributes
    ----------
    points
        Fractions of the reciprocal lattice vectors, shape (n_kpoints, 3).
    weights
        Shape (n_kpoints,), sum 1; zero for points of band structures.
    mesh
        Divisions, for a regular mesh.
    shift
        Shift of the mesh from Gamma, in mesh steps.
    is_line
        Whether they run along lines.
    """

    points: NDArray[np.float64]
    weights: NDArray[np.float64]
    mesh: tuple[int, int, int] | None = None
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    is_line: bool = False

    def __len__(self) -> int:
        return len(self.weights)


def kpoints_of(
    structure: Structure, moments: NDArray[np.float64], incar: Incar, kpoints: Kpoints | None
) -> KPoints:
    """Expand KPOINTS as VASP does, and reduce meshes by symmetry.

    Atoms whose initial moments differ in sign are not equivalent; with ISYM <= 0 only time reversal
    is used.

    Parameters
    ----------
    structure
        The crystal.
    moments
        Initial moments, Bohr magnetons, shape (n_atoms,).
    incar
        INCAR, with ISYM, and KSPACING and KGAMMA if there is no KPOINTS.
    kpoints
        KPOINTS; None if there is no such file.

    Raises
    ------
    InputError
        If the style is not supported, or there is neither KPOINTS nor KSPACING.
    """
    lengths = np.array(structure.lattice.reciprocal_lattice.abc)
    if kpoints is None:
        if "KSPACING" not in incar:
            raise InputError("KPOINTS: there is no such file, and no KSPACING in INCAR.")
        mesh = np.maximum(1, np.ceil(lengths / incar["KSPACING"] - 1e-9)).astype(int)
        centered = incar.get("KGAMMA", True)
        return _reduced(structure, moments, incar, mesh, np.zeros(3) if centered else mesh % 2 == 0)
    style = kpoints.style
    if style == KpointsSupportedModes.Automatic:
        subdivisions = float(kpoints.kpts[0][0])
        mesh = np.maximum(1, (subdivisions * lengths / (2 * np.pi) + 0.5).astype(int))
        return _reduced(structure, moments, incar, mesh, np.zeros(3))
    if style in {KpointsSupportedModes.Gamma, KpointsSupportedModes.Monkhorst}:
        mesh = np.array(kpoints.kpts[0], dtype=int)
        shift = np.array(kpoints.kpts_shift, dtype=float)
        if style == KpointsSupportedModes.Monkhorst:
            shift += (mesh % 2 == 0) / 2
        if not np.allclose(2 * shift, np.round(2 * shift)):
            raise InputError(f"KPOINTS: a shift of {tuple(kpoints.kpts_shift)} is not supported.")
        return _reduced(structure, moments, incar, mesh, np.round(2 * shift) % 2)
    points = np.array(kpoints.kpts, dtype=float).reshape(-1, 3)
    if style == KpointsSupportedModes.Line_mode:
        along = np.linspace(0, 1, kpoints.num_kpts)[:, None]
        lines = [a + along * (b - a) for a, b in zip(points[::2], points[1::2], strict=True)]
        points = np.concatenate(lines)
        return KPoints(points, np.full(len(points), 1 / len(points)), is_line=True)
    if style == KpointsSupportedModes.Cartesian:
        raise InputError("KPOINTS: Cartesian coordinates are not supported; use reciprocal ones.")
    weights = np.array(kpoints.kpts_weights or np.ones(len(points)), dtype=float)
    return KPoints(points, weights / weights.sum())


def _reduced(
    structure: Structure,
    moments: NDArray[np.float64],
    incar: Incar,
    mesh: NDArray[np.int_],
    is_shifted: NDArray,
) -> KPoints:
    """Reduce a mesh; along axes with ``is_shifted`` it is half a step away from Gamma."""
    is_shifted = is_shifted.astype(int)
    rotations = np.eye(3, dtype=int)[None]
    if incar.get("ISYM", 2) > 0:
        species = {key: n for n, key in enumerate(dict.fromkeys(_species(structure, moments)))}
        cell = (
            structure.lattice.matrix,
            structure.frac_coords,
            [species[key] for key in _species(structure, moments)],
        )
        symmetry = spglib.get_symmetry(cell, symprec=max(SYMPREC, incar.get("SYMPREC", SYMPREC)))
        if symmetry is not None:
            rotations = symmetry["rotations"]
    mapping, grid = spglib.get_stabilized_reciprocal_mesh(
        mesh, rotations, is_shift=is_shifted, is_time_reversal=True
    )
    representatives, counts = np.unique(mapping, return_counts=True)
    points = (grid[representatives] + is_shifted / 2) / mesh
    a, b, c = (int(n) for n in mesh)
    x, y, z = (float(s) / 2 for s in is_shifted)
    return KPoints(points, counts / counts.sum(), (a, b, c), (x, y, z))


def _species(structure: Structure, moments: NDArray[np.float64]) -> list[tuple[str, float]]:
    symbols = (site.specie.symbol for site in structure)
    return list(zip(symbols, np.sign(moments).tolist(), strict=True))
