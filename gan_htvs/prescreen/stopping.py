"""Early stopping of relaxations that would end above the window.

After some steps the final energy is extrapolated: the remaining decrease is a multiple of the
decrease since the previous check. The margin is the error of such extrapolations on complete
relaxations. A relaxation is stopped only if it would end above the window even with the margin.
``benchmarks/calibration.py`` derives the margins.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from gan_htvs.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gan_htvs.core.candidate import Curve


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
