"""Early stopping of relaxations that would end above the window.

After some steps the final energy is extrapolated: the remaining decrease is a multiple of the
decrease since the previous check. The margin is the error of such extrapolations on complete
relaxations. A relaxation is stopped only if it would end above the window even with the margin.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydantic import Field

from gan_htvs.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from gan_htvs.core.candidate import Curve

LOOKS = (5, 10, 15, 20, 30, 40, 60, 80, 120, 160)
"""Steps after which energies are extrapolated."""
QUANTILES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99, 1.0)
"""Shares of the extrapolations that a margin covers."""
MIN_RELAXATIONS = 20
"""Smallest number of unfinished relaxations from which a margin is derived."""


class Look(Settings):
    """One extrapolation: ``energy - gain * (decrease since the previous check) - margin``."""

    step: int
    before: int = Field(description="step of the previous check, or 0")
    gain: float
    margins: tuple[float, ...] = Field(description="eV/atom, one for each quantile of the rule")
    n_relaxations: int = Field(description="unfinished relaxations that it was derived from")

    def extrapolate(self, energies: Sequence[float]) -> float:
        """Return the final energy, eV/atom, from those of all steps up to this one."""
        return energies[self.step] - self.gain * (energies[self.before] - energies[self.step])

    def at_best(self, energies: Sequence[float], number: int) -> float:
        """Return the lowest final energy within the margin of this number, eV/atom."""
        return self.extrapolate(energies) - self.margins[number]


class Recall(Settings):
    """Recall and cost of a margin, measured on relaxations outside its calibration."""

    quantile: float
    recall: float = Field(description="share kept of those that end within the window")
    cost: float = Field(description="share of the steps of full relaxations")
    n_within: int = Field(description="relaxations that end within the window")


class StoppingRule(Settings):
    """Margins for one potential and optimizer, with recall and cost.

    Attributes
    ----------
    curves
        One point for each quantile, by window (eV/atom, as text).
    """

    level_of_theory: str
    optimizer: str
    fmax: float
    quantiles: tuple[float, ...]
    looks: tuple[Look, ...]
    curves: dict[str, tuple[Recall, ...]]
    n_relaxations: int
    data: str = Field("", description="data of the calibration")

    def quantile_for(self, recall: float, window: float) -> float | None:
        """Return the cheapest quantile with at least this recall; None if there is none.

        The window is the calibrated one that is nearest to ``window`` (eV/atom).
        """
        name = min(self.curves, key=lambda calibrated: abs(float(calibrated) - window))
        enough = [point for point in self.curves[name] if point.recall >= recall]
        return min(enough, key=lambda point: point.cost).quantile if enough else None

    def bound(self, ceiling: float, quantile: float) -> Bound:
        """Return the rule for structures that must end below ``ceiling``, eV/atom."""
        number = self.quantiles.index(quantile)
        return Bound(looks=self.looks, ceiling=round(ceiling, 6), number=number)


class Bound(Settings):
    """A rule for one composition: the argument ``stop`` of the relaxer."""

    looks: tuple[Look, ...]
    ceiling: float = Field(description="eV/atom")
    number: int = Field(description="of the margin")

    def __call__(self, curve: Curve) -> str | None:
        """Return why a relaxation is stopped; None if it continues."""
        n_steps = len(curve.energies) - 1
        for look in self.looks:
            if look.step == n_steps:
                lowest = look.at_best(curve.energies, self.number)
                if lowest > self.ceiling:
                    return (
                        f"stopped after {n_steps} steps: extrapolated to "
                        f"{lowest - self.ceiling:.3f} eV/atom above the window at best"
                    )
        return None


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


def shipped_rule(level_of_theory: str, optimizer: str, fmax: float) -> StoppingRule | None:
    """Return the shipped rule for these settings; None if there is none.

    A rule is not valid for a smaller ``fmax`` (eV/A), which lowers energies more.
    """
    for path in sorted(Path(__file__).parent.glob("stopping-*.json")):
        rule = StoppingRule.model_validate_json(path.read_text(encoding="utf-8"))
        is_same = (rule.level_of_theory, rule.optimizer) == (level_of_theory, optimizer)
        if is_same and rule.fmax <= fmax:
            return rule
    return None
