"""The query of an address: filters, order and page of a list, in the words of the command line."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

from gan_htvs.core.errors import UserError
from gan_htvs.results.filters import Filters
from gan_htvs.results.store import STABILITY

PAGE = 50
"""Candidates on one page."""

MOST_PAGES = 2000
LONGEST = 2000
"""Characters of a query."""


class Question(NamedTuple):
    """Which candidates, in which order, which page of them."""

    filters: dict[str, Any]
    sort: str = STABILITY
    page: int = 1

    @classmethod
    def read(cls, search: str | None) -> Question:
        """Read the query of an address, in which a stage may occur several times.

        Raises
        ------
        UserError
            If a filter is unknown or its value invalid, or the query is too long.
        """
        text = search or ""
        if not isinstance(text, str) or len(text) > LONGEST:
            raise UserError(f"An address has at most {LONGEST} characters after its ?.")
        words = parse_qsl(text.removeprefix("?"))
        filters: dict[str, Any] = dict(words)
        if "stage" in filters:
            filters["stage"] = [value for name, value in words if name == "stage"]
        sort, page = filters.pop("sort", STABILITY), filters.pop("page", "1")
        if not page.isdecimal() or not 1 <= int(page) <= MOST_PAGES:
            raise UserError(f"page: {page!r} is no number from 1 to {MOST_PAGES}.")
        Filters.of(**filters)
        return cls(filters, sort, int(page))

    @classmethod
    def read_or_all(cls, search: str | None) -> Question:
        """Read the query of an address; all candidates if it is invalid."""
        try:
            return cls.read(search)
        except UserError:
            return cls({})

    def write(self) -> str:
        """Return the query of an address, without defaults."""
        words = self.filters.copy()
        if self.sort != STABILITY:
            words["sort"] = self.sort
        if self.page > 1:
            words["page"] = self.page
        return f"?{urlencode(words, doseq=True)}" if words else ""
