"""What the calculation would cost VASP, as counts that do not depend on the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import ConfigDict, Field

from gan_htvs.documents import Document

if TYPE_CHECKING:
    from gan_htvs.rehearsal.inputs import Inputs

COST_FILE = "rehearsal.json"
"""Where it is written; emmet stores it as ``additional_json["rehearsal"]`` of the task."""

WAVEVECTOR_SQUARED_PER_EV = 0.262468
"""2 m / hbar^2, in 1/(eV A^2)."""


class RunCost(Document):
    """Work of one calculation of VASP.

    Numbers of atoms, bands, k-points and plane waves are what VASP would have. Ionic steps are
    those that the interatomic potential took, and electronic steps an assumption, see
    :func:`gan_htvs.rehearsal.calculation.n_electronic_steps`.
    """

    model_config = ConfigDict(frozen=True)

    formula: str = Field(description="of the cell")
    potential: str = Field(description="interatomic potential that took the place of VASP")
    is_hybrid: bool = Field(description="whether there is exact exchange")
    n_atoms: int = Field(description="in the cell")
    n_electrons: float = Field(description="NELECT")
    n_kpoints: int = Field(description="irreducible, those of weight zero included")
    n_bands: int = Field(description="NBANDS")
    n_spins: int = Field(description="ISPIN")
    n_plane_waves: int = Field(description="in a sphere of ENCUT, on the average over k-points")
    n_ionic_steps: int = Field(description="of the interatomic potential")
    n_electronic_steps: int = Field(description="of all ionic steps together, assumed")
    units: int = Field(description="k-points x bands x spins x electronic steps")
    fock_units: int = Field(
        description="k-points^2 x bands^2 x spins x electronic steps with exact exchange, else 0"
    )


def n_plane_waves(volume: float, encut: float) -> int:
    """Count the plane waves below a cutoff: V k^3 / (6 pi^2), with hbar^2 k^2 / 2m = ENCUT.

    Parameters
    ----------
    volume
        Of the cell, A^3.
    encut
        eV.
    """
    return round(volume * (WAVEVECTOR_SQUARED_PER_EV * encut) ** 1.5 / (6 * np.pi**2))


def cost_of(
    inputs: Inputs, *, potential: str, n_ionic_steps: int, n_electronic_steps: int
) -> RunCost:
    """Count the work of a calculation that took so many steps."""
    states = len(inputs.kpoints) * inputs.n_bands
    passes = inputs.n_spins * n_electronic_steps
    return RunCost(
        formula=inputs.structure.composition.formula.replace(" ", ""),
        potential=potential,
        is_hybrid=inputs.is_hybrid,
        n_atoms=len(inputs.structure),
        n_electrons=inputs.n_electrons,
        n_kpoints=len(inputs.kpoints),
        n_bands=inputs.n_bands,
        n_spins=inputs.n_spins,
        n_plane_waves=n_plane_waves(inputs.structure.volume, inputs.encut),
        n_ionic_steps=n_ionic_steps,
        n_electronic_steps=n_electronic_steps,
        units=states * passes,
        fock_units=states**2 * passes if inputs.is_hybrid else 0,
    )
