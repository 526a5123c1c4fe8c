"""One HSE06@PBE(+U) gap with GPAW, run as a script so that a crash hurts nobody else.

``python -m flows.engines._gpaw_gap input.json``; :mod:`flows.engines.gpaw` writes the input and
reads the output. An expected failure is one sentence on stderr and a non-zero exit code.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_htvs.bandgap import BandEdges, fill_bands, unsettled_bands

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMEARING = 0.05
"""Fermi-Dirac width, eV: lets a metallic start converge, leaves a gap of 1 eV alone."""

BANDS_BESIDE_EDGES = 1
"""Bands on either side of the PBE gap that get HSE06 eigenvalues before any others."""

ATTEMPTS: tuple[dict[str, Any], ...] = (
    {"maxiter": 120},
    # Charge sloshing between Mn sites: slow, strongly preconditioned steps, and more empty
    # bands in case the first attempt had too few to converge the conduction band edge.
    {
        "maxiter": 300,
        "mixer": {"name": "pulay", "beta": 0.02, "nmaxold": 8, "weight": 100.0},
        "nbands": "150%",
    },
)


def _die_with_parent() -> None:
    """Kill this process group when the parent goes away, however it goes.

    The parent holds the other end of standard input open as long as it waits.
    """

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def _converge(task: dict[str, Any]) -> Any:
    """Converge PBE(+U); returns an ASE calculator."""
    from ase import Atoms  # noqa: PLC0415
    from gpaw import GPAW, KohnShamConvergenceError  # noqa: PLC0415

    atoms = Atoms(
        task["species"],
        scaled_positions=task["frac_coords"],
        cell=task["lattice"],
        pbc=True,
        magmoms=task["magmoms"],
    )
    problem: Exception | None = None
    for number, attempt in enumerate(ATTEMPTS, start=1):
        atoms.calc = GPAW(
            mode={"name": "pw", "ecut": task["cutoff"]},
            xc="PBE",
            setups=task["setups"],
            kpts={"size": task["kpoints"], "gamma": True},
            spinpol=task["spin_polarized"],
            occupations={"name": "fermi-dirac", "width": SMEARING},
            convergence={"bands": "CBM+1.0"},
            txt=str(Path(task["workdir"]) / f"gpaw-{number}.txt"),
            legacy_gpaw=False,
            **attempt,
        )
        try:
            atoms.get_potential_energy()
        except KohnShamConvergenceError as error:
            problem = error
            continue
        return atoms.calc
    sys.exit(f"PBE did not converge in {len(ATTEMPTS)} attempts ({type(problem).__name__})")


def _all_eigenvalues(calc: Any, n_spins: int) -> NDArray[np.float64]:
    n_kpoints = len(calc.get_ibz_k_points())
    return np.array(
        [
            [calc.get_eigenvalues(kpt=k, spin=spin) for k in range(n_kpoints)]
            for spin in range(n_spins)
        ]
    )


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Half-open ranges of consecutive True values."""
    steps = np.diff(np.concatenate([[0], mask.astype(int), [0]]))
    return list(zip(np.flatnonzero(steps == 1), np.flatnonzero(steps == -1), strict=True))


def _hse06_edges(
    calc: Any, pbe: NDArray[np.float64], weights: NDArray[np.float64], n_electrons: float
) -> tuple[BandEdges, BandEdges]:
    """Edges of the PBE and of the HSE06 spectrum.

    The cost is that of the bands computed, so each k point and spin starts with those next to
    the PBE gap, and more are added while one of them could hold a band edge.
    """
    from gpaw.hybrids import NonSelfConsistentHybridXCCalculator  # noqa: PLC0415

    n_bands = pbe.shape[2]
    pbe_edges = fill_bands(pbe, weights, n_electrons)
    if pbe_edges is None:
        sys.exit(f"{n_bands} bands do not hold {n_electrons:g} electrons")
    hybrid = NonSelfConsistentHybridXCCalculator.from_dft_calculation(calc.dft, "HSE06")
    filled = pbe <= pbe_edges.vbm
    hse = np.where(filled, -np.inf, np.inf)
    distance = np.arange(n_bands) - filled.sum(axis=2, keepdims=True)
    n_beside = BANDS_BESIDE_EDGES
    wanted = (distance >= -n_beside) & (distance < n_beside)
    while wanted.any():
        for wfs in calc.dft.ibzwfs:
            for first, end in _runs(wanted[wfs.spin, wfs.k]):
                window = wfs.collect_bands_and_domain(first, end)
                v_pbe, v_hse = hybrid.calculate_one_kpt(window.psit_nX, window.P_ani, wfs.spin)
                e_hse = pbe[wfs.spin, wfs.k, first:end] - v_pbe + v_hse
                if not np.isfinite(e_hse).all():
                    sys.exit("HSE06 eigenvalues are not finite")
                hse[wfs.spin, wfs.k, first:end] = e_hse
        edges = fill_bands(hse, weights, n_electrons)
        if edges is None:
            n_beside += BANDS_BESIDE_EDGES
            wanted = (distance >= -n_beside) & (distance < n_beside) & ~np.isfinite(hse)
        else:
            wanted = unsettled_bands(pbe, hse, edges)
    if edges is None:
        sys.exit(f"the HSE06 Fermi level lies outside all {n_bands} bands")
    if hse[:, :, -1].min() <= edges.cbm:
        sys.exit(f"{n_bands} bands are too few to hold the HSE06 conduction band edge")
    return pbe_edges, edges


def main(input_path: str) -> None:
    """Compute the gap that ``input_path`` asks for and write the output file it names."""
    task = json.loads(Path(input_path).read_text(encoding="utf-8"))
    _die_with_parent()
    # GPAW is imported late: the watch on the parent must stand first, and imports are slow.
    import gpaw  # noqa: PLC0415

    calc = _converge(task)
    n_spins = calc.get_number_of_spins()
    weights = np.asarray(calc.get_k_point_weights())
    pbe = _all_eigenvalues(calc, n_spins)
    n_electrons = float(calc.get_number_of_electrons())
    pbe_edges, edges = _hse06_edges(calc, pbe, weights, n_electrons)
    result = {
        "band_gap": edges.gap,
        "is_gap_direct": edges.is_direct,
        "vbm": edges.vbm,
        "cbm": edges.cbm,
        "is_metal": edges.is_metal,
        "pbe_gap": pbe_edges.gap,
        "total_magnetization": float(calc.get_magnetic_moment()),
        "site_magnetizations": np.asarray(calc.get_magnetic_moments()).tolist(),
        "gpaw_version": gpaw.__version__,
    }
    output = Path(task["output"])
    partial = output.with_suffix(".partial")
    partial.write_text(json.dumps(result, allow_nan=False), encoding="utf-8")
    partial.replace(output)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Exception as error:  # noqa: BLE001 - whatever went wrong becomes the reason
        traceback.print_exc()
        # The last line of the log is the reason; messages of GPAW may have several.
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())}")
