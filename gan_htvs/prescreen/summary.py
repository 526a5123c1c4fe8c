"""What a prescreen sifted out, what that took, and what stopping early lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from gan_htvs.candidate import Hurdle
from gan_htvs.share import Share

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gan_htvs.candidate import Prescreened

WITHIN = frozenset({None, Hurdle.RELAXED_DUPLICATE, Hurdle.CONFIRMATION})
"""Where structures end that came to lie within the window; None: survivors."""


class Part(NamedTuple):
    """Structures that left at one hurdle, and what was computed for them.

    Attributes
    ----------
    hurdle
        None: those that survived.
    n
        Structures.
    n_steps
        Relaxation steps of both potentials.
    cpu_seconds
        Their processor time, s.
    """

    hurdle: Hurdle | None
    n: int
    n_steps: int
    cpu_seconds: float

    @property
    def name(self) -> str:
        """Where they are, in words."""
        return "survived" if self.hurdle is None else self.hurdle.value


class Lost(NamedTuple):
    """An estimate with the bounds of its 95 % interval, structures."""

    expected: float
    fewest: float
    most: float


@dataclass(frozen=True)
class PrescreenSummary:
    """A prescreen in numbers.

    Attributes
    ----------
    parts
        Every hurdle in order, survivors last.
    audit
        Of the relaxations that early stopping would have ended but for the audit, those that
        ended within the window.
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
        return next(part.n for part in self.parts if part.hurdle is Hurdle.STOPPING)

    @property
    def lost(self) -> Lost | None:
        """How many of them would have ended within the window.

        None where nothing that would have been stopped was audited.
        """
        if self.audit.value is None or self.audit.interval is None:
            return None
        return Lost(*(share * self.n_stopped for share in (self.audit.value, *self.audit.interval)))


def summarise(records: Iterable[Prescreened]) -> PrescreenSummary:
    """Add up the prescreen's records of a campaign's candidates."""
    records = list(records)
    hurdles: tuple[Hurdle | None, ...] = (*Hurdle, None)
    audited = [each for each in records if each.is_audited and each.would_stop_at is not None]
    return PrescreenSummary(
        parts=tuple(
            _part(hurdle, [each for each in records if each.hurdle == hurdle]) for hurdle in hurdles
        ),
        audit=Share(k=sum(each.hurdle in WITHIN for each in audited), n=len(audited)),
    )


def _part(hurdle: Hurdle | None, records: list[Prescreened]) -> Part:
    second = [each.confirmation for each in records if each.confirmation is not None]
    return Part(
        hurdle,
        len(records),
        sum(each.n_steps or 0 for each in records) + sum(each.n_steps for each in second),
        sum(each.cpu_seconds or 0.0 for each in records) + sum(each.cpu_seconds for each in second),
    )
