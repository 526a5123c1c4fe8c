"""How documents go into a database and come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from monty.json import MontyDecoder, jsanitize

if TYPE_CHECKING:
    from pydantic import BaseModel


def encode(document: BaseModel) -> dict[str, Any]:
    """Write a document with plain values, times excepted."""
    return jsanitize(document.model_dump(), strict=True, enum_values=True, allow_bson=True)


def decode(stored: Any) -> Any:
    """Read the objects in a stored document back."""
    return MontyDecoder().process_decoded(stored)


def without_id(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the database adds."""
    return {key: value for key, value in document.items() if key != "_id"}
