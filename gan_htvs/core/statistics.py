"""Shares with their confidence intervals."""

from __future__ import annotations

from pydantic import BaseModel, computed_field
from scipy.stats import binomtest

CONFIDENCE = 0.95
"""Confidence level of the intervals."""


class Share(BaseModel):
    """Share k / n with its Wilson score interval."""

    k: int
    n: int

    @computed_field(description="k / n; null if n is 0")  # type: ignore[prop-decorator]
    @property
    def value(self) -> float | None:
        """Value of the share."""
        return self.k / self.n if self.n else None

    @computed_field(description="Wilson 95 % interval; null if n is 0")  # type: ignore[prop-decorator]
    @property
    def interval(self) -> tuple[float, float] | None:
        """Lower and upper bound (Wilson, J. Am. Stat. Assoc. 1927, 22, 209)."""
        if not self.n:
            return None
        bounds = binomtest(self.k, self.n).proportion_ci(CONFIDENCE, method="wilson")
        return float(bounds.low), float(bounds.high)
