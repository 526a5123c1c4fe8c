"""Skipped structures of a source: number, reasons, files, and fixes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gan_htvs.core.text import join_names
from gan_htvs.structures.validity import RejectionReason

if TYPE_CHECKING:
    from collections.abc import Mapping

MISFIT, UNREADABLE, NO_STRUCTURE, TOO_LONG, UNSTABLE, IMPLAUSIBLE, SURPLUS = (
    "foreign_or_too_many_atoms",
    "unreadable_file",
    "no_structure_file",
    "cell_too_long",
    "too_far_above_hull",
    "too_far_below_hull",
    "max_structures",
)
"""Reasons in addition to :class:`gan_htvs.structures.validity.RejectionReason`. ``SURPLUS`` marks
valid, unique structures beyond ``dataset.max_structures``."""

DESCRIPTIONS = {SURPLUS: "more than dataset.max_structures"}
"""Text for reasons whose name is not clear enough."""

FIXES = {
    UNREADABLE: "correct or remove the files that cannot be read",
    NO_STRUCTURE: "remove or convert the files of other formats",
    MISFIT: "give chemical_system.caps the elements and numbers of atoms of the structures",
    RejectionReason.CHARGE_IMBALANCE: "widen oxidation_states",
    RejectionReason.ATOMS_TOO_CLOSE: "correct the structures or lower geometry.min_distances",
    RejectionReason.BAD_VOLUME: "correct the structures or widen geometry.volume_per_atom",
    UNSTABLE: "raise dataset.max_energy_above_hull",
    IMPLAUSIBLE: "add missing reference phases or lower references.lowest_decomposition_energy",
}
"""Suggested fix by reason."""


@dataclass
class Skipped:
    """Structures that were skipped.

    Attributes
    ----------
    counts
        Number of structures by reason.
    labels
        Skipped files or rows, each with its reason.
    """

    counts: Counter[str] = field(default_factory=Counter)
    labels: list[str] = field(default_factory=list)

    def add(self, reason: str, name: str | None = None, details: str = "") -> None:
        """Count a skipped structure, and list it if it has a name."""
        self.counts[reason] += 1
        if name is not None:
            self.labels.append(f"{name} ({details or format_reason(reason)})")

    @property
    def by_reason(self) -> dict[str, int]:
        """Nonzero counts, sorted by reason."""
        return {str(reason): n for reason, n in sorted(self.counts.items()) if n}

    @property
    def fix(self) -> str:
        """Suggested fixes for the reasons that occurred."""
        if fixes := [fix for reason, fix in FIXES.items() if self.counts[reason]]:
            return ", ".join(fixes)
        return (
            "correct the structures" if self.labels else "raise the caps or widen oxidation_states"
        )

    def __str__(self) -> str:
        """Format the reasons and the first files or rows; empty if nothing was skipped."""
        names = f", namely {join_names(self.labels)}" if self.labels else ""
        return format_reasons(self.counts) + names


def format_reasons(counts: Mapping[str, int], *, most: int | None = None) -> str:
    """Format reasons with their counts, most frequent first, at most ``most`` of them."""
    frequent = Counter({reason: n for reason, n in counts.items() if n}).most_common(most)
    return ", ".join(f"{format_reason(reason)} ({n:,})" for reason, n in frequent)


def format_reason(reason: str) -> str:
    """Format a reason in words: 'atoms too close'."""
    return DESCRIPTIONS.get(reason, reason.replace("_", " "))


def source_notes(skipped: Skipped, notes: Mapping[str, str]) -> list[str]:
    """Return sentences on the skipped structures of a source, and on those that were changed."""
    sentences = []
    if n := skipped.counts.total():
        what = "1 structure or file" if n == 1 else f"{n:,} structures or files"
        verb = "was" if n == 1 else "were"
        sentences.append(f"{what} of the dataset {verb} skipped: {skipped}.")
    return sentences + [f"{label} of the dataset: {note}." for label, note in notes.items()]
