"""Synthetic band structures.

Every band follows the distance of k from Gamma. The valence bands have their maximum at Gamma, the
conduction bands their minimum at the k-point farthest from it. The gap between the two edges is

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
"""Ratio of the gap without exact exchange to the gap with it."""

VALENCE_MAXIMUM = 3.0
"""Energy of the valence band maximum, eV."""

DISPERSION = 1.0
"""Width of every band and overlap of the bands of a metal, eV."""

VALENCE_SPREAD, CONDUCTION_SPREAD = 6.0, 12.0
"""Energy range of the valence and of the conduction bands, eV."""

SIGMA = 0.05
"""Gaussian smearing of the occupations, eV."""


@dataclass(frozen=True)
class Spectrum:
    """Band energies, occupations and density of states.

    Attributes
    ----------
    energies
        Band energies, eV, shape (n_spins, n_kpoints, n_bands), ascending.
    occupations
        Occupations between 0 and 1, same shape.
    efermi
        Fermi energy, eV.
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
    """Return synthetic bands.

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
    gap = synthetic_gap(inputs.structure.composition, is_hybrid=inputs.parameters["LHFCALC"])
    is_metal = gap == 0 or bool((n_filled % 1).any())
    distances = lattice.reciprocal_lattice.get_all_distances(inputs.points, [[0, 0, 0]])[:, 0]
    shape = 1 - distances / (distances.max() or 1.0)
    bands = np.arange(inputs.parameters["NBANDS"])
    energies = []
    for n in np.floor(n_filled):
        is_valence = bands < n
        above = (-DISPERSION if is_metal else gap) + CONDUCTION_SPREAD * (bands - n) / len(bands)
        edges = np.where(is_valence, VALENCE_SPREAD * (bands - n + 1) / max(n, 1), above)
        dispersion = np.where(is_valence, shape[:, None] - 1, shape[:, None])
        energies.append(np.sort(VALENCE_MAXIMUM + edges + DISPERSION * dispersion, axis=1))
    levels = np.stack(energies)
    per_band = 2 / inputs.n_spins

    def occupations(efermi: float) -> NDArray[np.float64]:
        return erfc((levels - efermi) / SIGMA) / 2

    def excess(efermi: float) -> float:
        filled = (occupations(efermi) * inputs.weights[:, None]).sum()
        return float(per_band * filled - inputs.parameters["NELECT"])

    middle = VALENCE_MAXIMUM + gap / 2
    efermi = brentq(excess, levels.min() - 1, levels.max() + 1) if is_metal else middle
    dos = _dos(levels, per_band * inputs.weights, int(inputs.parameters["NEDOS"]))
    magnetization = float(n_filled[0] - n_filled[-1])
    return Spectrum(levels, occupations(efermi), efermi, dos, magnetization)


def _filled_bands(inputs: Inputs, moment: float) -> NDArray[np.float64]:
    """Return the number of filled bands of each spin; integers if spin-polarized."""
    electrons = inputs.parameters["NELECT"]
    if inputs.n_spins == 1:
        return np.array([electrons / 2])
    # The difference has the parity of the number of electrons and is limited by NBANDS.
    largest = min(electrons, 2 * (inputs.parameters["NBANDS"] - 1) - electrons)
    parity = electrons % 2
    difference = np.clip(2 * np.round((moment - parity) / 2) + parity, -largest, largest)
    return (electrons + np.array([difference, -difference])) / 2


def _dos(
    levels: NDArray[np.float64], states: NDArray[np.float64], n_energies: int
) -> NDArray[np.float64]:
    """Return the density of states; ``states`` is the number of states per band and k-point."""
    edges = np.linspace(levels.min() - 1, levels.max() + 1, n_energies + 1)
    weights = np.broadcast_to(states[:, None], levels.shape[1:])
    counts = np.array([np.histogram(spin, edges, weights=weights)[0] for spin in levels])
    centers = np.broadcast_to((edges[:-1] + edges[1:]) / 2, counts.shape)
    return np.stack([centers, counts / (edges[1] - edges[0]), counts.cumsum(axis=1)], axis=-1)
