"""URL query of the candidate list: filters, sort key and page, named as on the command line."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

from gan_htvs.core.errors import UserError
from gan_htvs.results.filters import Filters
from gan_htvs.results.store import STABILITY

PAGE_SIZE = 50
"""Number of candidates per page."""

MAX_PAGES = 2000
MAX_QUERY_LENGTH = 2000
"""Maximum number of characters of a query."""


class SearchQuery(NamedTuple):
    """Filters, sort key and page of the candidate list."""

    filters: dict[str, Any]
    sort: str = STABILITY
    page: int = 1

    @classmethod
    def read(cls, search: str | None) -> SearchQuery:
        """Parse the query of a URL, which may contain several stages.

        Raises
        ------
        UserError
            If a filter is unknown or its value invalid, or the query is too long.
        """
        text = search or ""
        if not isinstance(text, str) or len(text) > MAX_QUERY_LENGTH:
            raise UserError(f"The query of a URL has at most {MAX_QUERY_LENGTH} characters.")
        pairs = parse_qsl(text.removeprefix("?"))
        filters: dict[str, Any] = dict(pairs)
        if "stage" in filters:
            filters["stage"] = [value for name, value in pairs if name == "stage"]
        sort, page = filters.pop("sort", STABILITY), filters.pop("page", "1")
        if not page.isdecimal() or not 1 <= int(page) <= MAX_PAGES:
            raise UserError(f"page: {page!r} is not a number from 1 to {MAX_PAGES}.")
        Filters.from_values(**filters)
        return cls(filters, sort, int(page))

    @classmethod
    def read_or_all(cls, search: str | None) -> SearchQuery:
        """Parse the query of a URL; return a query for all candidates if it is invalid."""
        try:
            return cls.read(search)
        except UserError:
            return cls({})

    def write(self) -> str:
        """Return the query of the URL, without default values."""
        values = self.filters.copy()
        if self.sort != STABILITY:
            values["sort"] = self.sort
        if self.page > 1:
            values["page"] = self.page
        return f"?{urlencode(values, doseq=True)}" if values else ""
