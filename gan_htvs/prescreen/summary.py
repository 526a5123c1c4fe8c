"""Counts and cost of the prescreen by step, and losses by early stopping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from gan_htvs.core.stages import ScreeningStep
from gan_htvs.core.statistics import Share

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gan_htvs.core.candidate import PrescreenVerdict

WITHIN = frozenset({None, ScreeningStep.RELAXED_DUPLICATE, ScreeningStep.CONFIRMATION})
"""Steps of structures that relaxed to within the window; None: survivors."""


class Part(NamedTuple):
    """Structures rejected at one step, and their cost.

    Attributes
    ----------
    rejected_at
        None: survivors.
    n
        Structures.
    n_steps
        Relaxation steps of both potentials.
    cpu_seconds
        Their processor time, s.
    """

    rejected_at: ScreeningStep | None
    n: int
    n_steps: int
    cpu_seconds: float

    @property
    def name(self) -> str:
        """Name of the step."""
        return "survived" if self.rejected_at is None else self.rejected_at.value


class Lost(NamedTuple):
    """An estimate with the bounds of its 95 % interval, structures."""

    expected: float
    fewest: float
    most: float


@dataclass(frozen=True)
class PrescreenSummary:
    """Summary of a prescreen.

    Attributes
    ----------
    parts
        Every step in order, survivors last.
    audit
        Share of the relaxations within the window among those that early stopping would have
        ended without the audit.
    """

    parts: tuple[Part, ...]
    audit: Share

    @property
    def total(self) -> Part:
        """All structures."""
        return Part(
            None,
            sum(part.n for part in self.parts),
            sum(part.n_steps for part in self.parts),
            sum(part.cpu_seconds for part in self.parts),
        )

    @property
    def n_stopped(self) -> int:
        """Relaxations that were stopped."""
        return next(part.n for part in self.parts if part.rejected_at is ScreeningStep.STOPPING)

    @property
    def lost(self) -> Lost | None:
        """Estimate of the stopped relaxations that would have ended within the window.

        None if no such relaxation was audited.
        """
        if self.audit.value is None or self.audit.interval is None:
            return None
        return Lost(*(share * self.n_stopped for share in (self.audit.value, *self.audit.interval)))


def summarize(records: Iterable[PrescreenVerdict]) -> PrescreenSummary:
    """Summarize the prescreen verdicts of a campaign."""
    records = list(records)
    steps: tuple[ScreeningStep | None, ...] = (*ScreeningStep, None)
    audited = [
        verdict for verdict in records if verdict.is_audited and verdict.would_stop_at is not None
    ]
    return PrescreenSummary(
        parts=tuple(
            _part(step, [verdict for verdict in records if verdict.rejected_at == step])
            for step in steps
        ),
        audit=Share(k=sum(verdict.rejected_at in WITHIN for verdict in audited), n=len(audited)),
    )


def _part(rejected_at: ScreeningStep | None, records: list[PrescreenVerdict]) -> Part:
    second = [verdict.confirmation for verdict in records if verdict.confirmation is not None]
    return Part(
        rejected_at,
        len(records),
        sum(verdict.n_steps or 0 for verdict in records) + sum(part.n_steps for part in second),
        sum(verdict.cpu_seconds or 0.0 for verdict in records)
        + sum(part.cpu_seconds for part in second),
    )
