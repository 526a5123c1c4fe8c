"""Stores of jobflow that read their connection from my_launchpad.yaml.

Serialized, for example in jobflow.yaml or a log, such a store contains only the path of that file
and the name of a collection, no credentials. This module does not import jobflow because jobflow
may import it during its own import.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maggma.stores import GridFSStore, MongoStore

from launchers.launchpad.launchpad_file import LaunchpadFile

OUTPUTS: dict[str, Any] = {"collection_name": "outputs", "key": "uuid"}
"""Collection of the outputs of jobs."""

BLOBS: dict[str, Any] = {
    "collection_name": "outputs_blobs",
    "compression": True,
    "ensure_metadata": True,
}
"""GridFS collection of objects that are too large for a document."""


def _connection(launchpad_file: str) -> dict[str, Any]:
    return LaunchpadFile.read(Path(launchpad_file)).connection


def _name(store: OutputStore | BlobStore) -> str:
    """Return the name of a store without the connection string, which may contain credentials."""
    return f"{store.launchpad_file}/{store.collection_name}"


class OutputStore(MongoStore):
    """Store of the outputs of jobs in the database of a launchpad file.

    Parameters
    ----------
    launchpad_file
        Path of my_launchpad.yaml; the password is read from it or from the environment.
    key
        Key field of maggma.
    """

    def __init__(self, launchpad_file: str, key: str = OUTPUTS["key"]) -> None:
        self.launchpad_file = launchpad_file
        super().__init__(**_connection(launchpad_file), **OUTPUTS | {"key": key})

    name = property(_name)


class BlobStore(GridFSStore):
    """Store of large objects of job outputs in GridFS of the same database.

    Parameters
    ----------
    launchpad_file
        Path of my_launchpad.yaml.
    key
        Key field of maggma.
    """

    def __init__(self, launchpad_file: str, key: str = "_id") -> None:
        self.launchpad_file = launchpad_file
        super().__init__(**_connection(launchpad_file), **BLOBS, key=key)

    name = property(_name)
