"""Syntax of CIF: data blocks with their tags and values.

The parser of pymatgen loses blocks of the same name, takes ``data_`` in text fields for a block,
and depends on the case of tags.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

UNKNOWN = ("?", ".")
"""Values that state nothing."""

_TOKEN = re.compile(r"""'(?P<single>.*?)'(?!\S)|"(?P<double>.*?)"(?!\S)|(?P<comment>\#.*)|\S+""")
_NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)(?:\(\d*\)?)?", re.IGNORECASE)
_KEYWORDS = ("loop_", "data_", "save_", "stop_", "global_")


class _Token(NamedTuple):
    text: str
    is_quoted: bool

    @property
    def is_tag(self) -> bool:
        return not self.is_quoted and self.text.startswith("_")

    @property
    def keyword(self) -> str | None:
        lower = self.text.lower()
        return None if self.is_quoted else next((k for k in _KEYWORDS if lower.startswith(k)), None)

    @property
    def is_value(self) -> bool:
        return not self.is_tag and self.keyword is None


@dataclass
class CifBlock:
    """A data block of a CIF.

    Attributes
    ----------
    name
        Text after ``data_``.
    columns
        Values by tag, one for each row of a table. Tags are in small letters, with underscores
        instead of periods.
    broken
        Reasons why the values of a tag cannot be read, by tag.
    """

    name: str
    columns: dict[str, list[str]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def column(self, *tags: str) -> list[str]:
        """Return the values of the first of these tags that has values, or an empty list.

        Raises
        ------
        ValueError
            If the values of one of the tags cannot be read.
        """
        for tag in tags:
            if tag in self.broken:
                raise ValueError(self.broken[tag])
            if values := self.columns.get(tag):
                return values
        return []

    def value(self, *tags: str) -> str | None:
        """Return the single value of the first of these tags that states one, or None.

        Raises
        ------
        ValueError
            If the values of one of the tags cannot be read.
        """
        for tag in tags:
            values = [value for value in self.column(tag) if value and value not in UNKNOWN]
            if values:
                return values[0]
        return None

    def add(self, tags: list[str], values: list[str]) -> None:
        """Add the columns of a table from its values, row by row."""
        keys = [tag.lower().replace(".", "_") for tag in tags]
        for i, (tag, key) in enumerate(zip(tags, keys, strict=True)):
            column = values[i :: len(keys)]
            if len(values) % len(keys):
                self.broken[key] = (
                    f"the table with {tag} has {len(keys)} columns, but {len(values)} values"
                )
            elif self.columns.setdefault(key, column) != column:
                self.broken[key] = f"it gives {tag} more than once, with different values"


def parse_blocks(text: str) -> list[CifBlock]:
    """Parse the data blocks of a CIF.

    Raises
    ------
    ValueError
        If a text field has no end.
    """
    blocks: list[CifBlock] = []
    tokens = list(_tokens(text))
    position = 0

    def take(kind: str) -> list[str]:
        nonlocal position
        taken = []
        while position < len(tokens) and getattr(tokens[position], kind):
            taken.append(tokens[position].text)
            position += 1
        return taken

    while position < len(tokens):
        token = tokens[position]
        if token.is_tag:
            position += 1
            values = take("is_value") or ["?"]
            if blocks:
                blocks[-1].add([token.text], values[:1])
                if len(values) > 1:
                    blocks[-1].broken[token.text.lower().replace(".", "_")] = (
                        f"{token.text} has several values; put them in quotes"
                    )
            continue
        position += 1
        if token.keyword == "data_":
            blocks.append(CifBlock(token.text[len("data_") :]))
        elif token.keyword == "loop_":
            tags, values = take("is_tag"), take("is_value")
            if blocks and tags:
                blocks[-1].add(tags, values)
    return blocks


def to_number(text: str) -> float:
    """Convert a number that may have an uncertainty: ``4.945(2)``.

    Raises
    ------
    ValueError
        If it is not a number.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a number")
    return float(match[1])


def _tokens(text: str) -> Iterator[_Token]:
    lines = iter(re.split(r"\r\n|\r|\n", text))
    for line in lines:
        rest = line
        if line.startswith(";"):
            content = [line[1:]]
            for inner in lines:
                if inner.startswith(";"):
                    rest = inner[1:]
                    break
                content.append(inner)
            else:
                raise ValueError("a text field that begins with ';' has no end")
            yield _Token(" ".join(content).strip(), is_quoted=True)
        for match in _TOKEN.finditer(rest):
            if match["comment"] is not None:
                continue
            quoted = match["single"] if match["single"] is not None else match["double"]
            yield _Token(match[0] if quoted is None else quoted, is_quoted=quoted is not None)
