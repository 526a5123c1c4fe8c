"""Calibration of early stopping: margins of extrapolated energies, with recall and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gan_htvs.prescreen.stopping import Look, Recall, StoppingRule

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

LOOKS = (5, 10, 15, 20, 30, 40, 60, 80, 120, 160)
"""Steps after which energies are extrapolated."""
QUANTILES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99, 1.0)
"""Shares of the extrapolations that a margin covers."""
MIN_RELAXATIONS = 20
"""Smallest number of unfinished relaxations from which a margin is derived."""


class Trace(NamedTuple):
    """A relaxation without early stopping.

    Attributes
    ----------
    energies
        Above the hull, of every step, eV/atom.
    ended
        Final energy, eV/atom; None: unsound, or not converged.
    group
        Label of related relaxations, such as the composition. Cross-validation does not split
        groups.
    """

    energies: Sequence[float]
    ended: float | None
    group: str


def calibrate(
    traces: Sequence[Trace],
    *,
    level_of_theory: str,
    optimizer: str,
    fmax: float,
    windows: Iterable[float] = (0.2, 0.08),
    folds: int = 5,
    data: str = "",
) -> StoppingRule:
    """Derive margins from relaxations, with cross-validated recall and cost.

    Parameters
    ----------
    traces
        Relaxations without early stopping.
    level_of_theory, optimizer, fmax
        Settings of the relaxations.
    windows
        Distances from the hull for which recall and cost are measured, eV/atom.
    folds
        Number of parts of the cross-validation.
    data
        Description of the data, stored with the rule.
    """
    groups = sorted({trace.group for trace in traces})
    fold_of = {group: i % folds for i, group in enumerate(groups)}
    looks = [
        _calibrate_looks([t for t in traces if fold_of[t.group] != fold], QUANTILES)
        for fold in range(folds)
    ]
    curves = {}
    for window in windows:
        points = []
        for index, quantile in enumerate(QUANTILES):
            kept = good = steps = full = 0
            for trace in traces:
                stopped = _stopped_at(trace, looks[fold_of[trace.group]], index, window)
                is_good = trace.ended is not None and trace.ended <= window
                good += is_good
                kept += is_good and stopped is None
                full += len(trace.energies)
                steps += len(trace.energies) if stopped is None else stopped + 1
            points.append(
                Recall(
                    quantile=quantile,
                    recall=round(kept / good, 4) if good else 1.0,
                    cost=round(steps / full, 4),
                    n_within=good,
                )
            )
        curves[f"{window:g}"] = tuple(points)
    return StoppingRule(
        level_of_theory=level_of_theory,
        optimizer=optimizer,
        fmax=fmax,
        quantiles=QUANTILES,
        looks=tuple(_calibrate_looks(traces, QUANTILES)),
        curves=curves,
        n_relaxations=len(traces),
        data=data,
    )


def _stopped_at(trace: Trace, looks: Sequence[Look], index: int, window: float) -> int | None:
    for look in looks:
        is_unfinished = look.step < len(trace.energies) - 1
        if is_unfinished and look.at_best(trace.energies, index) > window:
            return look.step
    return None


def _calibrate_looks(traces: Sequence[Trace], quantiles: Sequence[float]) -> list[Look]:
    looks = []
    before = 0
    for step in LOOKS:
        unfinished = [t for t in traces if t.ended is not None and len(t.energies) - 1 > step]
        if len(unfinished) < MIN_RELAXATIONS:
            break
        now = np.array([t.energies[step] for t in unfinished])
        decrease = np.array([t.energies[before] for t in unfinished]) - now
        remaining = now - np.array([t.ended for t in unfinished], dtype=float)
        gain = _slope(decrease, remaining)
        margins = np.quantile(remaining - gain * decrease, quantiles)
        looks.append(
            Look(
                step=step,
                before=before,
                gain=gain,
                margins=tuple(margins.round(5).tolist()),
                n_relaxations=len(unfinished),
            )
        )
        before = step
    return looks


def _slope(decrease: NDArray[np.float64], remaining: NDArray[np.float64]) -> float:
    """Return the slope of a least-squares fit through the origin, at least zero."""
    return max(0.0, round(float(decrease @ remaining) / max(float(decrease @ decrease), 1e-12), 5))
