"""Band gaps: what a result says about itself, and how electrons fill a spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ConfigDict, Field, model_validator

from gan_htvs.core.document import Document
from gan_htvs.core.failure import CalculationFailure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

HSE06_ON_PBE_U = "HSE06@PBE+U (non-SCF, GPAW)"
HSE06_ON_PBE = "HSE06@PBE (non-SCF, GPAW)"

SMALLEST_GAP = 0.01
"""Gaps below this are degeneracies split by numerical noise, eV."""

DIRECT_TOLERANCE = 1e-3
"""A direct transition this close to the smallest one makes the gap direct, eV."""

ELECTRON_TOLERANCE = 1e-6

SHIFT_MARGIN = 1.0
"""How much hybrid shifts of filled (or of empty) bands differ where we did not compute them, eV."""


class _StateResult(Document):
    """What a magnetic order and a band gap have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    total_magnetization: float | None = Field(
        None, description="PBE(+U) moment of the computed cell, Bohr magnetons"
    )
    pbe_gap: float | None = Field(None, ge=0, description="PBE(+U) gap, eV; 0 for a metal")
    nsites: int | None = Field(None, description="atoms in the computed primitive cell")
    kpoints: tuple[int, int, int] | None = Field(
        None, description="Gamma-centered k-point mesh; None: not reported by the code"
    )
    seconds: float | None = Field(None, ge=0, description="wall time, s")
    gpaw_version: str | None = Field(None, description="version of GPAW")


class MagneticOrderingResult(_StateResult):
    """The state that one magnetic start converged to, or the reason why there is none."""

    start: str = Field(
        description="NM (no moments), given (signs of the given moments), FM (all parallel) or "
        "AFM, AFM-2, AFM-3, ... (strongly coupled ones antiparallel, best first)"
    )
    order: str | None = Field(
        None, description="order of the converged moments: NM, FM, FiM or AFM"
    )
    energy_per_atom: float | None = Field(
        None,
        description="PBE(+U) energy, eV/atom; comparable between the orders of one structure, by "
        "the same code with the same settings, and with nothing else",
    )
    reason: str | None = Field(None, description="why it was not converged")
    is_skipped: bool = Field(
        default=False,
        description="excluded by a setting such as max_atoms, so that it is not missing",
    )
    is_retryable: bool = Field(
        default=False,
        description="whether the same calculation may succeed another time: it was stopped or "
        "killed; False: it would fail again",
    )

    @model_validator(mode="after")
    def _energy_or_reason(self) -> MagneticOrderingResult:
        if (self.energy_per_atom is None) != (self.reason is not None):
            raise ValueError("a magnetic order has either an energy or a reason")
        return self

    @property
    def is_missing(self) -> bool:
        """Whether it was asked for and has no energy.

        An order that converged to another one, or collapsed to the same state, has an energy.
        """
        return self.reason is not None and not self.is_skipped


def sort_by_energy(orders: Iterable[MagneticOrderingResult]) -> tuple[MagneticOrderingResult, ...]:
    """Sort magnetic orders, lowest energy first; those without an energy come last."""

    def energy(order: MagneticOrderingResult) -> float:
        return np.inf if order.energy_per_atom is None else order.energy_per_atom

    return tuple(sorted(orders, key=energy))


def missing_orderings(orders: Iterable[MagneticOrderingResult]) -> str | None:
    """Return which magnetic orders are missing and why, in one sentence; None if none is."""
    missing = [f"{order.start}: {order.reason}" for order in orders if order.is_missing]
    return f"missing magnetic order {'; '.join(missing)}" if missing else None


class BandGapResult(_StateResult):
    """The band gap of one structure, or the reason why there is none.

    A missing gap is never zero: ``band_gap`` is None and ``reason`` says why. A gap without all
    magnetic orders that were asked for may be that of another order than the lowest one:
    ``is_complete`` is False and ``reason`` says which orders are missing and why.
    """

    band_gap: float | None = Field(None, ge=0, description="HSE06 gap, eV; None: not computed")
    is_gap_direct: bool | None = Field(
        None, description="band edges at the same k point of the mesh; None for a metal"
    )
    vbm: float | None = Field(None, description="highest occupied level, eV; no common zero")
    cbm: float | None = Field(None, description="lowest empty level, eV; zero as for vbm")
    is_metal: bool | None = Field(None, description="bands cross the Fermi level on the mesh")
    method: str | None = Field(None, description="level of theory; None: not computed")
    failure: CalculationFailure | None = Field(
        None, description="where a calculation in a job of its own failed"
    )
    magnetic_order: str | None = Field(
        None,
        description="order of the converged moments: NM (none), FM (parallel), FiM "
        "(antiparallel with a net moment) or AFM (antiparallel without)",
    )
    magnetic_orders: tuple[MagneticOrderingResult, ...] = Field(
        (),
        description="every magnetic start, lowest energy first: the gap is that of the first",
    )
    is_complete: bool = Field(
        default_factory=lambda known: (
            known.get("band_gap") is not None
            and missing_orderings(known.get("magnetic_orders", ())) is None
        ),
        description="whether there is a gap and no magnetic order is missing",
    )
    reason: str | None = Field(
        default_factory=lambda known: missing_orderings(known.get("magnetic_orders", ())),
        description="why the gap was not computed, or which magnetic orders are missing and why",
    )
    is_retryable: bool = Field(
        default_factory=lambda known: any(
            order.is_missing and order.is_retryable for order in known.get("magnetic_orders", ())
        ),
        description="whether what is missing may be found by the same calculation another time",
    )
    cutoff: float | None = Field(None, description="plane-wave cutoff, eV")
    hubbard_u: dict[str, float] = Field(
        default_factory=dict,
        description="U on the d shell of each element that got one, eV",
    )
    vasp_version: str | None = Field(None, description="version of VASP")
    uncertainty: str | None = Field(None, description="what the value is worth")

    @model_validator(mode="after")
    def _complete_or_reason(self) -> BandGapResult:
        is_complete = self.band_gap is not None and missing_orderings(self.magnetic_orders) is None
        if self.is_complete != is_complete or (self.reason is None) != is_complete:
            raise ValueError(
                "a result has either a band_gap or a reason, or magnetic orders are missing and "
                "it is not complete"
            )
        return self


@dataclass(frozen=True)
class BandEdges:
    """Where the electrons end in a spectrum; energies in eV.

    For a metal ``vbm`` is the highest level that holds electrons and ``cbm`` the lowest that
    has room, and the gap is zero.
    """

    vbm: float
    cbm: float
    is_metal: bool
    is_direct: bool | None

    @property
    def gap(self) -> float:
        """Band gap, eV."""
        return 0.0 if self.is_metal else self.cbm - self.vbm


def fill_bands(eigenvalues: ArrayLike, weights: ArrayLike, n_electrons: float) -> BandEdges | None:
    """Fill a spectrum from below and find its band edges.

    One electron reservoir serves all k points and both spins, so a crossing of bands of
    different k points or spins shows as a metal. On a finite mesh a metal also has a small
    spacing at the Fermi level; it is told from an insulator by a number of filled bands that
    differs between k points.

    k points of weight zero hold no electrons of the reservoir. In an insulator as many bands are
    filled there as at every other point; where such a band then lies above an empty one, the
    spectrum is that of a metal.

    Parameters
    ----------
    eigenvalues
        (n_spins, n_kpoints, n_bands), eV; one spin means two electrons per band. Bands that are
        known to be filled or empty without their energy are -inf or inf.
    weights
        (n_kpoints,), weights of the irreducible k points; any normalization.
    n_electrons
        Electrons per cell.

    Returns
    -------
    BandEdges | None
        None where the electrons end in bands of unknown energy, or the bands cannot hold them, or
        all bands of one spin of an insulator are filled, so that its lowest empty level is unknown.
    """
    levels = np.sort(np.asarray(eigenvalues, dtype=float), axis=2)
    n_bands = levels.shape[2]
    share = np.asarray(weights, dtype=float)
    has_weight = share > 0
    filling = _fill(levels[:, has_weight], share[has_weight], n_electrons)
    if filling is None:
        return None
    vbm, cbm, n_full, is_metal = filling  # n_full: (n_spins, n_weighted k points)
    if is_metal:
        return BandEdges(vbm=vbm, cbm=cbm, is_metal=True, is_direct=None)
    if n_full.max() == n_bands:
        return None
    full = np.broadcast_to(np.arange(n_bands) < n_full[:, :1, None], levels.shape)
    highest_full = np.where(full, levels, -np.inf).max(axis=(0, 2))
    lowest_empty = np.where(full, np.inf, levels).min(axis=(0, 2))
    top, bottom = float(highest_full.max()), float(lowest_empty.min())
    if not np.isfinite([top, bottom]).all():
        return None
    if bottom - top < SMALLEST_GAP:
        return BandEdges(vbm=vbm, cbm=cbm, is_metal=True, is_direct=None)
    excess = float((lowest_empty - highest_full).min()) - (bottom - top)
    return BandEdges(vbm=top, cbm=bottom, is_metal=False, is_direct=excess < DIRECT_TOLERANCE)


def _fill(
    levels: NDArray[np.float64], weights: NDArray[np.float64], n_electrons: float
) -> tuple[float, float, NDArray[np.int_], bool] | None:
    """Fill levels (n_spins, n_kpoints, n_bands; ascending) at k points that all have weight.

    Returns the highest level with electrons and the lowest with room, eV, the number of full
    bands (n_spins, n_kpoints) and whether that is a metal; None where they are not known.
    """
    n_spins, _, n_bands = levels.shape
    if not ELECTRON_TOLERANCE < n_electrons < 2 * n_bands - ELECTRON_TOLERANCE:
        return None
    per_kpoint = weights / weights.sum() * (2 / n_spins)
    capacity = np.broadcast_to(per_kpoint[None, :, None], levels.shape).ravel()

    order = np.argsort(levels, axis=None, kind="stable")
    held = np.cumsum(capacity[order])
    n_full = int(np.searchsorted(held, n_electrons + ELECTRON_TOLERANCE, side="right"))
    is_partly_filled = n_electrons - (held[n_full - 1] if n_full else 0.0) > ELECTRON_TOLERANCE
    sorted_levels = levels.ravel()[order]
    vbm = float(sorted_levels[n_full if is_partly_filled else n_full - 1])
    cbm = float(sorted_levels[n_full])
    if not np.isfinite([vbm, cbm]).all():
        return None

    full = np.zeros(levels.shape, dtype=bool)
    full.flat[order[:n_full]] = True
    n_filled = full.sum(axis=2)
    crosses = bool((n_filled != n_filled[:, :1]).any())
    return vbm, cbm, n_filled, is_partly_filled or crosses or cbm - vbm < SMALLEST_GAP


def undetermined_bands(
    start: NDArray[np.float64], shifted: NDArray[np.float64], edges: BandEdges
) -> NDArray[np.bool_]:
    """Find the bands of unknown energy that could hold a band edge.

    A filled band is taken to rise at most ``SHIFT_MARGIN`` more, an empty one to fall at most
    that much more, than any known band of its kind.

    Parameters
    ----------
    start
        (n_spins, n_kpoints, n_bands), eigenvalues of the starting functional, eV.
    shifted
        The same after the correction; -inf (filled) and inf (empty) where not computed.
    edges
        Filling of ``shifted``.

    Returns
    -------
    NDArray
        (n_spins, n_kpoints, n_bands), True for the bands to compute.
    """
    known = np.isfinite(shifted)
    shift = np.where(known, shifted, 0) - start
    full = shifted <= edges.vbm + ELECTRON_TOLERANCE
    highest = start + shift[known & full].max() + SHIFT_MARGIN
    # A known empty band exists: the one that holds the conduction band edge.
    lowest = start + shift[known & (shifted >= edges.cbm)].min() - SHIFT_MARGIN
    return ~known & np.where(full, highest > edges.vbm, lowest < edges.cbm)


def magnetic_order(moments: ArrayLike, *, total: float) -> str:
    """Name the collinear order of atomic moments, Bohr magnetons: NM, FM, FiM or AFM."""
    moments = np.asarray(moments, dtype=float)
    # Oxygen carries a few tenths in covalent oxides without ordering by itself.
    large = moments[np.abs(moments) > max(0.3, 0.25 * np.abs(moments).max(initial=0.0))]
    if not large.size:
        return "NM"
    if (large > 0).all() or (large < 0).all():
        return "FM"
    return "AFM" if abs(total) < 0.1 * len(large) else "FiM"
