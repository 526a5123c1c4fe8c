"""What is told of many things, or at length, in a few words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from gan_htvs.core.settings import first_problem

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_NAMED = 5
"""Things that are named one by one."""

LONGEST_LINE = 300
"""Characters that are kept of what others wrote."""


INCOMPLETE = "*"
"""Marks values of tables from which magnetic orders are missing."""

INCOMPLETE_MEANS = (
    f"{INCOMPLETE} Magnetic orders are missing: an incomplete gap is no result and passes no "
    "filter, an incomplete energy is an upper bound. The next run computes what was stopped."
)
"""Explains the mark below a table."""


def listed(names: Sequence[str]) -> str:
    """Name the first ones, and count the others: 'a, b, c, d, e and 3 more'."""
    named, more = ", ".join(names[:MOST_NAMED]), len(names) - MOST_NAMED
    return f"{named} and {more:,} more" if more > 0 else named


def in_one_line(error: Exception) -> str:
    """Return the beginning of an error in one line; of a validation, its first problem."""
    if isinstance(error, ValidationError):
        return first_problem(error)
    return " ".join(str(error).split())[:LONGEST_LINE]
