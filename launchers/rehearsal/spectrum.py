"""Synthetic band structures.

Every band follows one smooth function of k with the symmetry of the lattice. The valence bands have
their maximum at Gamma, the conduction bands their minimum at that of the function, at the zone
boundary. The gap between the two edges is

    gap = EV_PER_ELECTRONEGATIVITY * (largest - smallest electronegativity of the elements)

for a hybrid, and SEMILOCAL_SHARE of it otherwise. Elements are metals, and so are cells with an odd
number of electrons without spin polarization.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq
from scipy.special import erfc

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.core import Composition, Lattice

    from launchers.rehearsal.inputs import Inputs

EV_PER_ELECTRONEGATIVITY = 1.25
"""Gap of a hybrid calculation for each unit of Pauling's scale, eV."""

SEMILOCAL_SHARE = 0.4
"""Share of the gap that is left without exact exchange."""

VALENCE_MAXIMUM = 3.0
"""Energy, eV."""

DISPERSION = 1.0
"""Width of every band, and how far the bands of a metal overlap, eV."""

VALENCE_SPREAD, CONDUCTION_SPREAD = 6.0, 12.0
"""Between the lowest and the highest band on either side of the gap, eV."""

METAL_SIGMA = 0.05
"""Least smearing of a metal, eV."""

SAMPLES = 12
"""Divisions of the mesh on which the extremum at the zone boundary is looked for."""


@dataclass(frozen=True)
class Spectrum:
    """Energies of electrons.

    Attributes
    ----------
    energies
        eV, shape (n_spins, n_kpoints, n_bands), ascending.
    occupations
        Between 0 and 1, same shape.
    efermi
        eV.
    dos
        Energy (eV), states per eV and integrated states, shape (n_spins, n_energies, 3).
    magnetization
        Difference between the numbers of electrons of the two spins.
    """

    energies: NDArray[np.float64]
    occupations: NDArray[np.float64]
    efermi: float
    dos: NDArray[np.float64]
    magnetization: float


def synthetic_gap(composition: Composition, *, is_hybrid: bool) -> float:
    """Return a band gap, eV, that depends only on the elements."""
    electronegativities = [element.X for element in composition.elements]
    gap = EV_PER_ELECTRONEGATIVITY * (max(electronegativities) - min(electronegativities))
    return gap if is_hybrid else SEMILOCAL_SHARE * gap


def spectrum_of(inputs: Inputs, lattice: Lattice, moments: NDArray[np.float64]) -> Spectrum:
    """Make synthetic bands.

    Parameters
    ----------
    inputs
        Number of electrons and bands, k-points, NEDOS.
    lattice
        Lattice of the last structure.
    moments
        Moments of the atoms, Bohr magnetons, shape (n_atoms,).
    """
    n_filled = _filled_bands(inputs, float(moments.sum()))
    gap = synthetic_gap(inputs.structure.composition, is_hybrid=inputs.is_hybrid)
    is_metal = gap == 0 or not np.allclose(n_filled, np.round(n_filled))
    level = -DISPERSION if is_metal else gap
    shape = _band_shape(lattice, inputs.kpoints.points)  # (n_kpoints,)
    bands = np.arange(inputs.n_bands)
    energies = np.stack([_bands(shape, bands, int(np.floor(filled)), level) for filled in n_filled])
    if is_metal:
        efermi, occupations = _filled(energies, inputs)
    else:
        efermi = VALENCE_MAXIMUM + gap / 2
        occupations = np.where(energies < efermi, 1.0, 0.0)
    return Spectrum(
        energies, occupations, efermi, _dos(energies, inputs), float(n_filled[0] - n_filled[-1])
    )


def _filled_bands(inputs: Inputs, moment: float) -> NDArray[np.float64]:
    """Return the number of filled bands of each spin, integers if spin-polarized."""
    electrons = inputs.n_electrons
    if not inputs.is_polarized:
        return np.array([electrons / 2])
    # The difference has the parity of the number of electrons, and is limited by the bands.
    largest = min(electrons, 2 * (inputs.n_bands - 1) - electrons)
    parity = electrons % 2
    difference = np.clip(2 * np.round((moment - parity) / 2) + parity, -largest, largest)
    return (electrons + np.array([difference, -difference])) / 2


def _band_shape(lattice: Lattice, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a sum of plane waves over lattice vectors, 1 at Gamma and 0 at its minimum."""
    steps = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), axis=-1).reshape(-1, 3)
    lengths = np.linalg.norm(steps @ lattice.matrix, axis=1)
    weights = np.exp(-((lengths / lengths[lengths > 0].min()) ** 2))
    weights /= weights.sum()

    def at(k: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.cos(2 * np.pi * k @ steps.T) @ weights

    axis = np.arange(SAMPLES) / SAMPLES
    lowest = at(np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)).min()
    return (at(points) - lowest) / (1 - lowest)


def _bands(
    shape: NDArray[np.float64], bands: NDArray[np.int_], n_filled: int, level: float
) -> NDArray[np.float64]:
    """Return the energies of one spin, shape (n_kpoints, n_bands)."""
    below = VALENCE_MAXIMUM - VALENCE_SPREAD * (n_filled - 1 - bands) / max(n_filled, 1)
    above = VALENCE_MAXIMUM + level + CONDUCTION_SPREAD * (bands - n_filled) / max(len(bands), 1)
    valence = below - DISPERSION * (1 - shape[:, None])
    conduction = above + DISPERSION * shape[:, None]
    return np.sort(np.where(bands < n_filled, valence, conduction), axis=1)


def _filled(energies: NDArray[np.float64], inputs: Inputs) -> tuple[float, NDArray[np.float64]]:
    """Fill overlapping bands, with Gaussian smearing for each ISMEAR."""
    sigma = max(METAL_SIGMA, inputs.incar.get("SIGMA", 0.2))
    per_band = 2 / inputs.n_spins

    def occupations(efermi: float) -> NDArray[np.float64]:
        return erfc((energies - efermi) / sigma) / 2

    def excess(efermi: float) -> float:
        filled = (occupations(efermi) * inputs.kpoints.weights[:, None]).sum()
        return float(per_band * filled - inputs.n_electrons)

    reach = 10 * sigma
    efermi = brentq(excess, energies.min() - reach, energies.max() + reach)
    return efermi, occupations(efermi)


def _dos(energies: NDArray[np.float64], inputs: Inputs) -> NDArray[np.float64]:
    n_energies = int(inputs.incar.get("NEDOS", 301))
    edges = np.linspace(energies.min() - 1, energies.max() + 1, n_energies + 1)
    width = edges[1] - edges[0]
    weights = np.broadcast_to(inputs.kpoints.weights[:, None], energies.shape[1:]).ravel()
    tables = []
    for spin in energies:
        states, _ = np.histogram(spin.ravel(), edges, weights=weights * (2 / inputs.n_spins))
        tables.append(np.stack([edges[:-1] + width / 2, states / width, states.cumsum()], axis=1))
    return np.stack(tables)
