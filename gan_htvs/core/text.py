"""What is told of many things, or at length, in a few words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from gan_htvs.core.settings import first_problem

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_NAMED = 5
"""Things that are named one by one."""

MAX_LINE_LENGTH = 300
"""Characters that are kept of what others wrote."""


INCOMPLETE_MARK = "*"
"""Marks values of tables from which magnetic orders are missing."""

INCOMPLETE_NOTE = (
    f"{INCOMPLETE_MARK} Magnetic orders are missing: an incomplete gap is no result and passes no "
    "filter, an incomplete energy is an upper bound. The next run computes what was stopped."
)
"""Explains the mark below a table."""


def join_names(names: Sequence[str]) -> str:
    """Name the first ones, and count the others: 'a, b, c, d, e and 3 more'."""
    named, more = ", ".join(names[:MAX_NAMED]), len(names) - MAX_NAMED
    return f"{named} and {more:,} more" if more > 0 else named


def one_line(error: Exception) -> str:
    """Return the beginning of an error in one line; of a validation, its first problem."""
    if isinstance(error, ValidationError):
        return first_problem(error)
    return " ".join(str(error).split())[:MAX_LINE_LENGTH]
