"""Structures in documents that are written as JSON files."""

from __future__ import annotations

from typing import Annotated

from pydantic import PlainSerializer
from pymatgen.core import Structure

StoredStructure = Annotated[
    Structure, PlainSerializer(lambda structure: structure.as_dict(verbosity=0), when_used="json")
]
"""Structure, serialized to JSON as the dictionary of pymatgen."""
