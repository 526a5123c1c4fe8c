"""PBE(+U) energies and HSE06 gaps with GPAW, run as a script: a crash stops no other job.

``[mpiexec -n 4] python -m flows.engines._gpaw_gap input.json``; :mod:`flows.engines.gpaw` writes
the input and reads the output; the output of a failed calculation is the reason.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from gan_htvs.core.band_gap import BandEdges, fill_bands, undetermined_bands
from gan_htvs.core.failure import is_machine_error
from gan_htvs.core.files import write_atomically

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMEARING = 0.05
"""Fermi-Dirac width, eV: a metallic start converges, and a gap of 1 eV is not affected."""

BANDS_BESIDE_EDGES = 1
"""Bands on either side of the PBE gap that get HSE06 eigenvalues before any others."""

ATTEMPTS: tuple[tuple[int, dict[str, Any]], ...] = (
    (120, {}),
    # Charge sloshing between Mn sites: slow, strongly preconditioned steps, and more empty
    # bands in case the first attempt had too few to converge the conduction band edge.
    (
        sys.maxsize,
        {
            "mixer": {"name": "pulay", "beta": 0.02, "nmaxold": 8, "weight": 100.0},
            "nbands": "150%",
        },
    ),
)
"""SCF iteration of the ordering at which each attempt ends, and its arguments of GPAW."""

RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID")
"""Rank of a process before MPI is started, in Open MPI, PMIx, MPICH and Slurm."""

MPI_COMMAND = "engines.band_gap.mpi_command"

NO_MPI = (
    f"{MPI_COMMAND} is set, but each GPAW process runs alone: build GPAW with the "
    "MPI of that command (apt-get install libopenmpi-dev; CC=mpic++ pip install --force-reinstall "
    "--no-deps --no-cache-dir --no-binary gpaw gpaw), or remove mpi_command"
)


class _Failure(Exception):  # noqa: N818 - a result, not a bug
    """An expected failure: the reason, in one sentence."""


class _LimitReached(_Failure):
    """A limit of the work was reached; a larger one may suffice.

    Parameters
    ----------
    reason
        What was reached, with the setting.
    counts
        Fields of the result with the amount of work.
    """

    def __init__(self, reason: str, **counts: int) -> None:
        super().__init__(reason)
        self.counts = counts


class _MachineFailure(_Failure):
    """A failure caused by the machine; another one may succeed."""


def _exit_with_parent(*, is_parallel: bool) -> None:
    """Kill this process group when the parent ends or is killed.

    The parent keeps the other end of standard input open while it waits. An MPI launcher passes
    that end on only to rank 0; the other ranks watch the launcher.
    """
    launcher = os.getppid()
    rank = next((int(os.environ[name]) for name in RANK_VARIABLES if name in os.environ), 0)

    def wait() -> None:
        if is_parallel and rank > 0:
            while os.getppid() == launcher:
                time.sleep(1)
        else:
            while os.read(0, 1):
                pass
        os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def _require_mpi() -> None:
    """Check that the MPI processes share one calculation.

    Raises
    ------
    _MachineFailure
        If the MPI world has only this process.
    """
    # GPAW ignores the launcher unless this variable selects an MPI backend.
    os.environ.setdefault("GPAW_MPI_BACKEND", "cgpaw")
    try:
        from gpaw.mpi import world  # noqa: PLC0415

        is_alone = world.size == 1
    except (ImportError, ValueError):
        is_alone = True
    if is_alone:
        raise _MachineFailure(NO_MPI)


def _parallel() -> dict[str, int]:
    """Distribute k points and spins over ranks; other options need a GPAW with ScaLAPACK."""
    from gpaw.mpi import world  # noqa: PLC0415

    return {"kpt": world.size, "domain": 1, "band": 1}


def _converge(task: dict[str, Any]) -> tuple[Any, int]:
    """Converge PBE(+U); return the ASE calculator and the number of SCF iterations."""
    from ase import Atoms  # noqa: PLC0415
    from gpaw import GPAW, KohnShamConvergenceError  # noqa: PLC0415

    atoms = Atoms(
        task["species"],
        scaled_positions=task["frac_coords"],
        cell=task["lattice"],
        pbc=True,
        magmoms=task["magmoms"],
    )
    limit, n_iterations = int(task["max_scf_iterations"]), 0
    for number, (end, attempt) in enumerate(ATTEMPTS, start=1):
        maxiter = min(end, limit) - n_iterations
        if maxiter == 0:
            break
        atoms.calc = GPAW(
            mode={"name": "pw", "ecut": task["cutoff"]},
            xc="PBE",
            setups=task["setups"],
            kpts={"size": task["kpoints"], "gamma": True},
            spinpol=task["spin_polarized"],
            occupations={"name": "fermi-dirac", "width": SMEARING},
            convergence={"bands": "CBM+1.0"},
            parallel=_parallel(),
            txt=str(Path(task["workdir"]) / f"gpaw-{number}.txt"),
            legacy_gpaw=False,
            maxiter=maxiter,
            **attempt,
        )
        try:
            atoms.get_potential_energy()
        except KohnShamConvergenceError:
            n_iterations += maxiter
            continue
        except ValueError as error:
            if str(error).startswith("Too few spins"):
                raise _MachineFailure(f"{error}: use fewer in {MPI_COMMAND}") from error
            raise
        return atoms.calc, n_iterations + atoms.calc.dft.scf_loop.niter
    raise _LimitReached(
        f"PBE did not converge in {limit} SCF iterations (engines.band_gap.max_scf_iterations)",
        scf_iterations=limit,
    )


def _hse06_edges(
    calc: Any,
    pbe: NDArray[np.float64],
    weights: NDArray[np.float64],
    n_electrons: float,
    limit: int,
) -> tuple[BandEdges, BandEdges, int]:
    """Return the band edges of PBE and of HSE06, and the number of HSE06 eigenvalues.

    The cost is proportional to this number. So each k point and spin starts with the bands next to
    the PBE gap; more are added while one of them could be a band edge.

    Raises
    ------
    _LimitReached
        If more than ``limit`` eigenvalues are needed.
    """
    from gpaw.hybrids import NonSelfConsistentHybridXCCalculator  # noqa: PLC0415

    n_bands = pbe.shape[2]
    pbe_edges = fill_bands(pbe, weights, n_electrons)
    if pbe_edges is None:
        raise _Failure(f"{n_bands} bands are too few for {n_electrons:g} electrons")
    hybrid = NonSelfConsistentHybridXCCalculator.from_dft_calculation(calc.dft, "HSE06")
    filled = pbe <= pbe_edges.vbm
    hse = np.where(filled, -np.inf, np.inf)
    distance = np.arange(n_bands) - filled.sum(axis=2, keepdims=True)
    n_beside, n_evaluations, edges = 0, 0, None
    while True:
        if edges is None:
            n_beside += BANDS_BESIDE_EDGES
            to_compute = (distance >= -n_beside) & (distance < n_beside) & ~np.isfinite(hse)
        else:
            to_compute = undetermined_bands(pbe, hse, edges)
        if not to_compute.any():
            break
        n_evaluations += int(to_compute.sum())
        if n_evaluations > limit:
            raise _LimitReached(
                f"HSE06 needs at least {n_evaluations} evaluations of exact exchange "
                f"(engines.band_gap.max_hybrid_evaluations: {limit})",
                hybrid_evaluations=n_evaluations,
            )
        hse[to_compute] = _hse06_levels(calc, hybrid, pbe, to_compute)
        edges = fill_bands(hse, weights, n_electrons)
    if edges is None:
        raise _Failure(f"the HSE06 Fermi level lies outside all {n_bands} bands")
    if hse[:, :, -1].min() <= edges.cbm:
        raise _Failure(f"{n_bands} bands are too few for the HSE06 conduction band edge")
    return pbe_edges, edges, n_evaluations


def _hse06_levels(
    calc: Any, hybrid: Any, pbe: NDArray[np.float64], to_compute: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the HSE06 eigenvalues of the bands of a mask (n_spins, n_kpoints, n_bands), eV."""
    hse = np.empty_like(pbe)
    for spin, k in np.ndindex(to_compute.shape[:2]):
        levels = np.ma.array(pbe[spin, k], mask=to_compute[spin, k])
        for bands in np.ma.clump_masked(levels):  # slices of consecutive bands
            window = _window(calc.dft.ibzwfs, int(k), int(spin), bands.start, bands.stop)
            v_pbe, v_hse = hybrid.calculate_one_kpt(*window, spin)
            hse[spin, k, bands] = pbe[spin, k, bands] - v_pbe + v_hse
    computed = hse[to_compute]
    # All ranks must follow the same branch.
    calc.comm.broadcast(computed, 0)
    if not np.isfinite(computed).all():
        raise _Failure("HSE06 eigenvalues are not finite")
    return computed


def _window(ibzwfs: Any, k: int, spin: int, first: int, end: int) -> tuple[Any, Any]:
    """Broadcast the wave functions and projections of some bands to all ranks.

    Each rank then adds the exchange with its own occupied states.
    """
    from gpaw.mpi import broadcast  # noqa: PLC0415

    data = None
    if ibzwfs.rank_ks[k, spin] == ibzwfs.kpt_comm.rank:
        (wfs,) = (wfs for wfs in ibzwfs if (wfs.k, wfs.spin) == (k, spin))
        collected = wfs.collect_bands_and_domain(first, end)
        if collected is not None:
            data = (collected.psit_nX, collected.P_ani)
    owner = ibzwfs.comm.sum_scalar(ibzwfs.comm.rank if data is not None else 0)
    return broadcast(data, owner, comm=ibzwfs.comm)


def _state(calc: Any) -> dict[str, Any]:
    """Return the properties of the converged PBE(+U) state."""
    edges = fill_bands(*_spectrum(calc))
    return {
        "energy_per_atom": float(calc.get_potential_energy()) / len(calc.atoms),
        "total_magnetization": float(calc.get_magnetic_moment()),
        "site_magnetizations": np.asarray(calc.get_magnetic_moments()).tolist(),
        "pbe_gap": None if edges is None else edges.gap,
    }


def _spectrum(calc: Any) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return eigenvalues (n_spins, n_kpoints, n_bands; eV), k-point weights, electrons per cell."""
    shape = (calc.get_number_of_spins(), len(calc.get_ibz_k_points()))
    eigenvalues = np.array([calc.get_eigenvalues(kpt=k, spin=s) for s, k in np.ndindex(shape)])
    weights = np.asarray(calc.get_k_point_weights())
    return eigenvalues.reshape(*shape, -1), weights, float(calc.get_number_of_electrons())


def _gap(calc: Any, limit: int) -> dict[str, Any]:
    """Compute the HSE06 gap of a converged state with at most ``limit`` evaluations."""
    import gpaw  # noqa: PLC0415

    pbe_edges, edges, n_evaluations = _hse06_edges(calc, *_spectrum(calc), limit)
    return {
        "band_gap": edges.gap,
        "is_gap_direct": edges.is_direct,
        "vbm": edges.vbm,
        "cbm": edges.cbm,
        "is_metal": edges.is_metal,
        "pbe_gap": pbe_edges.gap,
        "hybrid_evaluations": n_evaluations,
        "gpaw_version": gpaw.__version__,
    }


def main(task: dict[str, Any]) -> None:
    """Converge and store a state, or compute the gap of a stored one, depending on ``task``."""
    if task["is_parallel"]:
        _require_mpi()
    # The import of GPAW is slow, so the parent is watched first.
    from gpaw import GPAW  # noqa: PLC0415

    if task["step"] == "converge":
        calc, n_iterations = _converge(task)
        result = _state(calc) | {"scf_iterations": n_iterations}
        calc.write(task["checkpoint"], mode="all")
    else:
        calc = GPAW(task["checkpoint"], txt=None, parallel=_parallel(), legacy_gpaw=False)
        result = _gap(calc, task["max_hybrid_evaluations"])
    if calc.comm.rank == 0:
        write_atomically(Path(task["output"]), json.dumps(result, allow_nan=False).encode())


def _fail(task: dict[str, Any], error: Exception) -> NoReturn:
    """Write the reason, and abort the other ranks, which may be waiting for this one."""
    traceback.print_exc()
    reason = " ".join(str(error).split())  # messages of GPAW may have several lines
    if not isinstance(error, _Failure):
        reason = f"{type(error).__name__}: {reason}"
    is_retryable = isinstance(error, _MachineFailure) or is_machine_error(error)
    failure: dict[str, Any] = {"reason": reason, "is_retryable": is_retryable}
    if isinstance(error, _LimitReached):
        failure |= {"is_limited": True, **error.counts}
    write_atomically(Path(task["output"]), json.dumps(failure).encode())
    if task["is_parallel"] and not isinstance(error, _MachineFailure):
        from gpaw.mpi import world  # noqa: PLC0415

        world.abort(1)
    sys.exit(1)


if __name__ == "__main__":
    the_task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    _exit_with_parent(is_parallel=the_task["is_parallel"])
    try:
        main(the_task)
    except Exception as the_error:  # noqa: BLE001 - every error is stored as the reason
        _fail(the_task, the_error)
