"""What an address asks for: filters, order and page of a list, in the words of the command line."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

from gan_htvs.errors import UserError
from gan_htvs.filters import Filters
from gan_htvs.store import STABILITY

PAGE = 50
"""Candidates on one page."""

MOST_PAGES = 2000
PAGES = {str(page): page for page in range(1, MOST_PAGES + 1)}
LONGEST = 2000
"""Characters of a query."""


class Question(NamedTuple):
    """Which candidates, in which order, which page of them."""

    filters: dict[str, Any]
    sort: str = STABILITY
    page: int = 1

    @classmethod
    def read(cls, search: str | None) -> Question:
        """Read the query of an address; a stage may be there several times.

        Raises
        ------
        UserError
            In one sentence, if something in it is not known or of the wrong type.
        """
        if not isinstance(search or "", str) or len(search or "") > LONGEST:
            raise UserError(f"An address has at most {LONGEST} characters after its ?.")
        filters: dict[str, Any] = {}
        sort, page = STABILITY, 1
        for name, value in parse_qsl((search or "").removeprefix("?")):
            if name == "sort":
                sort = value
            elif name == "page":
                if value not in PAGES:
                    raise UserError(f"page: {value!r} is no number from 1 to {MOST_PAGES}.")
                page = PAGES[value]
            elif name == "stage":
                filters["stage"] = [*filters.get("stage", ()), value]
            else:
                filters[name] = value
        Filters.of(**filters)
        return cls(filters, sort, page)

    def write(self) -> str:
        """Write it as the query of an address, the usual left out."""
        words = [
            (name, value)
            for name, values in self.filters.items()
            for value in (values if isinstance(values, list) else [values])
        ]
        words += [("sort", self.sort)] if self.sort != STABILITY else []
        words += [("page", str(self.page))] if self.page > 1 else []
        return f"?{urlencode(words)}" if words else ""


def range_of(filters: dict[str, Any], name: str, low: float, high: float) -> list[float]:
    """Place the handles of a slider from ``low`` to ``high``; at its ends there is no bound."""
    bounds = getattr(Filters.of(**filters), name) or (None, None)
    return [
        low if bounds[0] is None else max(low, bounds[0]),
        high if bounds[1] is None else min(high, bounds[1]),
    ]


def bounds_of(handles: list[float], low: float, high: float) -> str | None:
    """Read the handles of a slider; None: no bound."""
    told = [
        "" if handles[0] <= low else f"{handles[0]:g}",
        "" if handles[1] >= high else f"{handles[1]:g}",
    ]
    return "..".join(told) if any(told) else None
