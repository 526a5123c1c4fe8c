"""Base class of stored documents, and their conversion to and from database documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monty.json import MontyDecoder, jsanitize
from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """Base class of stored documents.

    Structures are pymatgen objects in Python. Numbers are finite: a quantity that was not computed
    is None, with the reason in a field of its own.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)


def encode(document: BaseModel) -> dict[str, Any]:
    """Convert a document to plain values; times stay datetime objects."""
    return jsanitize(document.model_dump(), strict=True, enum_values=True, allow_bson=True)


def decode(stored: Any) -> Any:
    """Rebuild the objects in a stored document."""
    return MontyDecoder().process_decoded(stored)


def value_at(document: Mapping[str, Any], path: str) -> Any:
    """Return the value of a document at a path such as ``pourbaix.minimum``; None if missing."""
    value: Any = document
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def without_id(document: dict[str, Any]) -> dict[str, Any]:
    """Remove the ``_id`` that the database adds."""
    return {key: value for key, value in document.items() if key != "_id"}


def output_of(document: dict[str, Any]) -> dict[str, Any]:
    """Return the output of a job document, or an empty dictionary if there is none."""
    output = document.get("output")
    return output if isinstance(output, dict) else {}
