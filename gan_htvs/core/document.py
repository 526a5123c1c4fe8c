"""Base of stored documents, and how they go into a database and come back."""

from __future__ import annotations

from typing import Any

from monty.json import MontyDecoder, jsanitize
from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """Base of everything that is stored.

    Structures stay pymatgen objects in Python. No number is NaN or infinite: a quantity that was
    not computed is None, and a reason stands beside it.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)


def encode(document: BaseModel) -> dict[str, Any]:
    """Write a document with plain values, times excepted."""
    return jsanitize(document.model_dump(), strict=True, enum_values=True, allow_bson=True)


def decode(stored: Any) -> Any:
    """Read the objects in a stored document back."""
    return MontyDecoder().process_decoded(stored)


def without_id(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the database adds."""
    return {key: value for key, value in document.items() if key != "_id"}


def output_of(document: dict[str, Any]) -> dict[str, Any]:
    """Return the output of a job document, or an empty dictionary if there is none."""
    output = document.get("output")
    return output if isinstance(output, dict) else {}
