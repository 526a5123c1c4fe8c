"""Short forms of lists and errors for messages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import ValidationError

from gan_htvs.core.settings import first_problem

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_NAMED = 5
"""Largest number of names in a list."""

MAX_LINE_LENGTH = 300
"""Largest length of an error in one line, characters."""

INCOMPLETE_MARK = "*"
"""Mark of values in tables for which magnetic orderings are missing."""

INCOMPLETE_NOTE = (
    f"{INCOMPLETE_MARK} Magnetic orderings are missing: the gap may belong to another ordering and "
    "passes no filter (unless engines.band_gap.accept_incomplete is set), the energy is an upper "
    "bound. A run with larger limits completes the gap; the next run repeats killed calculations."
)
"""Explanation of the mark below a table."""


_OTHER_TYPES = re.compile(
    r"[\d._+-]+([de][+-]?[\d_]+)?"  # number, date
    r"|0[box][\da-f_]+"  # number in another base
    r"|inf|infinity|nan"
    r"|t|true|f|false|y|yes|n|no|on|off"
    r"|na|nil|none|null",
    re.IGNORECASE,
)
"""Text that readers of CSV, extended XYZ or YAML files take for another type."""


def is_text_everywhere(text: str) -> bool:
    """Return whether no common reader takes a name for a number, date, truth or missing value.

    Covered are YAML 1.1 and 1.2, pandas (CSV) and ASE (extended XYZ).
    """
    return _OTHER_TYPES.fullmatch(text) is None


def join_names(names: Sequence[str]) -> str:
    """Join the first names and count the others: 'a, b, c, d, e and 3 more'."""
    named, more = ", ".join(names[:MAX_NAMED]), len(names) - MAX_NAMED
    return f"{named} and {more:,} more" if more > 0 else named


def one_line(error: Exception) -> str:
    """Format an error in one line, truncated; for a validation error, its first problem."""
    if isinstance(error, ValidationError):
        return first_problem(error)
    return " ".join(str(error).split())[:MAX_LINE_LENGTH]
