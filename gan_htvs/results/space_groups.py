"""Numbers of relaxed candidates without symmetry, before and after the relaxation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

P1 = 1
"""Number of the space group that has only lattice translations."""

_FIELDS = ("generated_symmetry", "symmetry", "tight_symmetry")

SPACE_GROUP_FIELDS = tuple(f"{name}.number" for name in _FIELDS)
"""Fields of a candidate document that the counts need."""


class P1Counts(NamedTuple):
    """Relaxed candidates, and how many of them have the space group P1.

    Attributes
    ----------
    n
        Relaxed candidates.
    proposed, relaxed
        P1 as proposed, and after the relaxation, at a tolerance of 0.1 A.
    relaxed_tight
        P1 after the relaxation at a tolerance of 0.01 A.
    """

    n: int
    proposed: int
    relaxed: int
    relaxed_tight: int

    @classmethod
    def of(cls, candidates: Sequence[Mapping[str, Any]]) -> Self:
        """Count candidates; those without a relaxed structure are ignored."""
        relaxed = [row for row in candidates if row.get("energy_above_hull") is not None]
        numbers = [[(row.get(name) or {}).get("number") for row in relaxed] for name in _FIELDS]
        return cls(len(relaxed), *(column.count(P1) for column in numbers))

    def __str__(self) -> str:
        """Format the counts."""
        return (
            f"{self.proposed:,} of {self.n:,} as proposed, {self.relaxed:,} of {self.n:,} relaxed "
            f"({self.relaxed_tight:,} at 0.01 A)"
        )


def p1_note(counts: Mapping[str, P1Counts]) -> str | None:
    """Describe the counts of each proposer; None if no candidate was relaxed."""
    texts = {name: str(count) for name, count in counts.items() if count.n}
    if not texts:
        return None
    parts = list(texts.values()) if len(counts) == 1 else [f"{n}: {t}" for n, t in texts.items()]
    return f"Space group P1 at a tolerance of 0.1 A: {'; '.join(parts)}."
