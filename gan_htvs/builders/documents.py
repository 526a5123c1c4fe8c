"""How documents go into a database and come back, and what they say of their makers."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from monty.json import MontyDecoder, jsanitize

from gan_htvs import __version__

if TYPE_CHECKING:
    from pydantic import BaseModel


PACKAGES = ("emmet-core", "maggma", "pymatgen")
VERSIONS = {"gan_htvs": __version__} | {name: version(name) for name in PACKAGES}
"""What documents are built with, for their ``builder_meta``."""


def encode(document: BaseModel) -> dict[str, Any]:
    """Write a document with plain values, times excepted."""
    return jsanitize(document.model_dump(), strict=True, enum_values=True, allow_bson=True)


def decode(stored: Any) -> Any:
    """Read the objects in a stored document back."""
    return MontyDecoder().process_decoded(stored)
