"""What of a source of structures does not come in: how much, why, which files, and the fix."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gan_htvs.core.text import join_names
from gan_htvs.structures.validity import RejectionReason

if TYPE_CHECKING:
    from collections.abc import Mapping

MISFIT, UNREADABLE, TOO_LONG, UNSTABLE, SURPLUS = (
    "foreign_or_too_many_atoms",
    "unreadable_file",
    "cell_too_long",
    "too_far_above_hull",
    "max_structures",
)
"""Reasons of every source, beside those of :class:`gan_htvs.structures.validity.RejectionReason`;
the last
is that of structures that are sound and unique, but more than were asked for."""

WORDS = {SURPLUS: "more than dataset.max_structures"}
"""Reasons that do not explain themselves."""

FIXES = {
    UNREADABLE: "correct or remove the files that do not parse",
    MISFIT: "give chemical_system.caps the elements and numbers of atoms of the structures",
    RejectionReason.CHARGE_IMBALANCE: "widen oxidation_states",
    UNSTABLE: "raise dataset.max_energy_above_hull",
}
"""What helps against a reason."""


@dataclass
class Skipped:
    """Structures that did not come in.

    Attributes
    ----------
    counts
        How many, by reason.
    named
        Which files or rows those were, each with its reason, where the source is made of such.
    """

    counts: Counter[str] = field(default_factory=Counter)
    named: list[str] = field(default_factory=list)

    def add(self, reason: str, name: str | None = None, details: str = "") -> None:
        """Count one, and name it if it has a name."""
        self.counts[reason] += 1
        if name is not None:
            self.named.append(f"{name} ({details or spell_reason(reason)})")

    @property
    def by_reason(self) -> dict[str, int]:
        """The counts that are not 0, in the order of the names of the reasons."""
        return {str(reason): n for reason, n in sorted(self.counts.items()) if n}

    @property
    def fix(self) -> str:
        """What helps against the reasons that there are."""
        if known := [fix for reason, fix in FIXES.items() if self.counts[reason]]:
            return ", ".join(known)
        return "correct the structures" if self.named else "raise the caps, widen oxidation_states"

    def __str__(self) -> str:
        """Tell the reasons, and the first files or rows; nothing if nothing was left out."""
        names = f", namely {join_names(self.named)}" if self.named else ""
        return spell_reasons(self.counts) + names


def spell_reasons(counts: Mapping[str, int], *, most: int | None = None) -> str:
    """Spell reasons with their counts, the most frequent first, ``most`` of them at most."""
    frequent = Counter({reason: n for reason, n in counts.items() if n}).most_common(most)
    return ", ".join(f"{spell_reason(reason)} ({n:,})" for reason, n in frequent)


def spell_reason(reason: str) -> str:
    """Spell a reason as a person would: 'atoms too close'."""
    return WORDS.get(reason, reason.replace("_", " "))
