"""K-points of a calculation, from KPOINTS or KSPACING."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pymatgen.io.vasp.inputs import Kpoints, KpointsSupportedModes
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from gan_htvs.core.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.core import Structure
    from pymatgen.io.vasp.inputs import Incar

SYMPREC = 1e-3
"""Tolerance of symmetry, A. VASP's default is 1e-5, but VASP symmetrizes forces, whereas the forces
of an interatomic potential have the noise of single precision."""


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
        is_centered = incar.get("KGAMMA", True)
        make = Kpoints.gamma_automatic if is_centered else Kpoints.monkhorst_automatic
        kpoints = make(tuple(mesh))
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
