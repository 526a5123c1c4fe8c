"""Documents of band gaps and magnetic orderings, and band edges of a spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

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
"""Smaller gaps are degeneracies split by numerical noise, eV."""

DIRECT_TOLERANCE = 1e-3
"""A direct transition this close to the smallest one makes the gap direct, eV."""

ELECTRON_TOLERANCE = 1e-6

SHIFT_MARGIN = 1.0
"""Largest assumed spread of the hybrid shifts of filled bands, and of empty bands, eV."""


class _StateResult(Document):
    """Fields shared by magnetic orderings and band gaps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    total_magnetization: float | None = Field(
        None, description="PBE(+U) moment of the computed cell, Bohr magnetons"
    )
    pbe_gap: float | None = Field(None, ge=0, description="PBE(+U) gap, eV; 0 for a metal")
    nsites: int | None = Field(None, description="atoms in the computed primitive cell")
    kpoints: tuple[int, int, int] | None = Field(
        None, description="Gamma-centered k-point mesh; None: not reported by the code"
    )
    scf_iterations: int | None = Field(
        None, ge=0, description="number of SCF iterations of PBE(+U); None: not reported"
    )
    seconds: float | None = Field(None, ge=0, description="wall time, s")
    gpaw_version: str | None = Field(None, description="version of GPAW")


class MagneticOrderingResult(_StateResult):
    """Converged state of one starting magnetic ordering, or the reason why it is missing."""

    start: str = Field(
        description="NM (no moments), given (signs of the given moments), FM (all parallel) or "
        "AFM, AFM-2, AFM-3, ... (strongly coupled moments antiparallel, lowest coupling energy "
        "first)"
    )
    order: str | None = Field(
        None, description="ordering of the converged moments: NM, FM, FiM or AFM"
    )
    energy_per_atom: float | None = Field(
        None,
        description="PBE(+U) energy, eV/atom; comparable only between orderings of one structure "
        "that were computed by the same code with the same settings",
    )
    reason: str | None = Field(None, description="why it did not converge")
    is_skipped: bool = Field(
        default=False,
        description="excluded by a setting such as max_atoms, and therefore not missing",
    )
    is_limited: bool = Field(
        default=False,
        description="stopped by the limit of SCF iterations; it may converge with a larger one",
    )
    is_retryable: bool = Field(
        default=False,
        description="whether the same calculation may succeed when repeated, because it was killed",
    )

    @model_validator(mode="after")
    def _energy_or_reason(self) -> MagneticOrderingResult:
        if (self.energy_per_atom is None) != (self.reason is not None):
            raise ValueError("a magnetic ordering has either an energy or a reason")
        return self

    @property
    def is_missing(self) -> bool:
        """Whether the ordering was requested and has no energy.

        An ordering that converged to another ordering has an energy.
        """
        return self.reason is not None and not self.is_skipped

    @property
    def was_killed(self) -> bool:
        """Whether the ordering is missing only because its calculation was killed."""
        return self.is_missing and self.is_retryable

    def is_final(self, max_scf_iterations: int) -> bool:
        """Return whether a calculation with this limit would have the same result."""
        is_limited = self.is_limited and (self.scf_iterations or 0) < max_scf_iterations
        return not self.is_retryable and not is_limited


def sort_by_energy(orders: Iterable[MagneticOrderingResult]) -> tuple[MagneticOrderingResult, ...]:
    """Sort magnetic orderings by energy, lowest first; orderings without an energy come last."""

    def energy(order: MagneticOrderingResult) -> float:
        return np.inf if order.energy_per_atom is None else order.energy_per_atom

    return tuple(sorted(orders, key=energy))


def missing_orderings(orders: Iterable[MagneticOrderingResult]) -> str | None:
    """Return names and reasons of the missing magnetic orderings; None if none is missing."""
    missing = [f"{order.start}: {order.reason}" for order in orders if order.is_missing]
    return f"missing magnetic ordering {'; '.join(missing)}" if missing else None


class BandGapResult(_StateResult):
    """Band gap of one structure, or the reason why it is missing.

    A missing gap is not zero: ``band_gap`` is None and ``reason`` has the reason. If a requested
    magnetic ordering is missing, the gap may belong to an ordering that is not the most stable:
    ``is_complete`` is False and ``reason`` has the missing orderings with their reasons. If the
    calculation of an ordering was killed, there is no gap, because the gap of another ordering
    would depend on the load of the machine.
    """

    band_gap: float | None = Field(None, ge=0, description="HSE06 gap, eV; None: not computed")
    is_gap_direct: bool | None = Field(
        None, description="band edges at the same k point of the mesh; None for a metal"
    )
    vbm: float | None = Field(
        None, description="highest occupied level, eV; the zero of energy differs between codes"
    )
    cbm: float | None = Field(None, description="lowest empty level, eV; same zero as vbm")
    is_metal: bool | None = Field(None, description="bands cross the Fermi level on the mesh")
    method: str | None = Field(None, description="level of theory; None: not computed")
    failure: CalculationFailure | None = Field(
        None, description="failure of a calculation that runs as a separate job"
    )
    magnetic_order: str | None = Field(
        None,
        description="ordering of the converged moments: NM (none), FM (parallel), FiM "
        "(antiparallel with a net moment) or AFM (antiparallel without)",
    )
    magnetic_orders: tuple[MagneticOrderingResult, ...] = Field(
        (),
        description="all starting magnetic orderings, lowest energy first; the gap is of the first",
    )
    is_complete: bool = Field(
        default_factory=lambda known: (
            known.get("band_gap") is not None
            and missing_orderings(known.get("magnetic_orders", ())) is None
        ),
        description="whether there is a gap and no magnetic ordering is missing",
    )
    reason: str | None = Field(
        default_factory=lambda known: missing_orderings(known.get("magnetic_orders", ())),
        description="why the gap was not computed, or which magnetic orderings are missing",
    )
    is_limited: bool = Field(
        default_factory=lambda known: any(
            order.is_missing and order.is_limited for order in known.get("magnetic_orders", ())
        ),
        description="a limit of SCF iterations or hybrid evaluations was reached; a larger one may "
        "complete the gap",
    )
    is_retryable: bool = Field(
        default_factory=lambda known: any(
            order.was_killed for order in known.get("magnetic_orders", ())
        ),
        description="whether the same calculation may succeed when repeated, because it was killed",
    )
    hybrid_evaluations: int | None = Field(
        None,
        ge=0,
        description="number of eigenvalues with exact exchange; of a gap that the limit stopped: "
        "the number that is needed at least",
    )
    cutoff: float | None = Field(None, description="plane-wave cutoff, eV")
    hubbard_u: dict[str, float] = Field(
        default_factory=dict,
        description="Hubbard U on the d shell of each element, eV",
    )
    vasp_version: str | None = Field(None, description="version of VASP")
    uncertainty: str | None = Field(None, description="known error of the method")

    @classmethod
    def from_failure(cls, failure: CalculationFailure) -> Self:
        """Return the result of a calculation that failed, before or while the gap was computed."""
        return cls(reason=failure.message, failure=failure, is_retryable=failure.is_retryable)

    @property
    def shortcoming(self) -> str | None:
        """Why the gap is missing or incomplete; None if it is complete."""
        if self.band_gap is None or self.is_complete:
            return self.reason
        return f"band gap {self.band_gap:.2f} eV incomplete: {self.reason}"

    @model_validator(mode="after")
    def _complete_or_reason(self) -> BandGapResult:
        is_complete = self.band_gap is not None and missing_orderings(self.magnetic_orders) is None
        if self.is_complete != is_complete or (self.reason is None) != is_complete:
            raise ValueError(
                "a result has either a band_gap or a reason, or magnetic orderings are missing "
                "and it is not complete"
            )
        if self.band_gap is not None and any(order.was_killed for order in self.magnetic_orders):
            raise ValueError("a killed magnetic ordering cannot be replaced by another ordering")
        return self

    def is_final(self, *, max_scf_iterations: int, max_hybrid_evaluations: int) -> bool:
        """Return whether a calculation with these limits would have the same result."""
        needed = self.hybrid_evaluations if self.band_gap is None else None
        return (
            not self.is_retryable
            and all(order.is_final(max_scf_iterations) for order in self.magnetic_orders)
            and (needed is None or needed > max_hybrid_evaluations)
        )


@dataclass(frozen=True)
class BandEdges:
    """Band edges of a spectrum, eV.

    For a metal ``vbm`` is the highest level that holds electrons, ``cbm`` the lowest level that
    is not full, and the gap is zero.
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
    """Fill the levels of a spectrum in ascending order and find its band edges.

    All k points and both spins share one Fermi level, so bands that cross between k points or
    spins make a metal. On a finite mesh a metal also has a small spacing at the Fermi level; it
    is recognized by a number of filled bands that differs between k points.

    k points of weight zero hold no electrons. In an insulator the number of filled bands at such
    a point is the same as at every other point; if one of these bands lies above an empty band,
    the spectrum is that of a metal.

    Parameters
    ----------
    eigenvalues
        (n_spins, n_kpoints, n_bands), eV; one spin means two electrons per band. Bands of
        unknown energy are -inf if they are filled and inf if they are empty.
    weights
        (n_kpoints,), weights of the irreducible k points; any normalization.
    n_electrons
        Electrons per cell.

    Returns
    -------
    BandEdges | None
        None if the Fermi level lies in bands of unknown energy, if the bands cannot hold the
        electrons, or if all bands of one spin of an insulator are filled and its lowest empty
        level is therefore unknown.
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
    """Fill ascending levels (n_spins, n_kpoints, n_bands) at k points of positive weight.

    Returns
    -------
    Highest level with electrons and lowest level that is not full, eV, number of full bands
    (n_spins, n_kpoints), and whether the spectrum is that of a metal; None if unknown.
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

    Relative to the known bands, a filled band is assumed to shift up by at most ``SHIFT_MARGIN``
    more than any filled one, and an empty band down by at most that much more than any empty one.

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
    # The band that holds the conduction band edge is known and empty.
    lowest = start + shift[known & (shifted >= edges.cbm)].min() - SHIFT_MARGIN
    return ~known & np.where(full, highest > edges.vbm, lowest < edges.cbm)


def magnetic_order(moments: ArrayLike, *, total: float) -> str:
    """Classify the collinear ordering of atomic moments (Bohr magnetons): NM, FM, FiM or AFM."""
    moments = np.asarray(moments, dtype=float)
    # In covalent oxides oxygen has induced moments of a few tenths.
    large = moments[np.abs(moments) > max(0.3, 0.25 * np.abs(moments).max(initial=0.0))]
    if not large.size:
        return "NM"
    if (large > 0).all() or (large < 0).all():
        return "FM"
    return "AFM" if abs(total) < 0.1 * len(large) else "FiM"
