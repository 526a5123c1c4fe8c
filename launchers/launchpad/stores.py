"""Jobflow's stores, built from my_launchpad.yaml where they are needed.

Written down, in jobflow.yaml or in a log, such a store is the path of that file and the name of
a collection, and nothing secret. ``import jobflow`` may import this module before
it is done itself, so jobflow is not imported here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maggma.stores import GridFSStore, MongoStore

from launchers.launchpad.launchpad_file import LaunchpadFile

OUTPUTS: dict[str, Any] = {"collection_name": "outputs", "key": "uuid"}
"""What jobs return."""

BLOBS: dict[str, Any] = {
    "collection_name": "outputs_blobs",
    "compression": True,
    "ensure_metadata": True,
}
"""What is too large for a document of MongoDB."""


def _connection(launchpad_file: str) -> dict[str, Any]:
    return LaunchpadFile.read(Path(launchpad_file)).connection


def _name(store: OutputStore | BlobStore) -> str:
    """Return the name of a store without what the connection string may hold."""
    return f"{store.launchpad_file}/{store.collection_name}"


class OutputStore(MongoStore):
    """What jobs return, in the database of a launchpad file.

    Parameters
    ----------
    launchpad_file
        Path of my_launchpad.yaml; a password comes from there or from the environment.
    key
        Field that a document is found by, for maggma.
    """

    def __init__(self, launchpad_file: str, key: str = OUTPUTS["key"]) -> None:
        self.launchpad_file = launchpad_file
        super().__init__(**_connection(launchpad_file), **OUTPUTS | {"key": key})

    name = property(_name)


class BlobStore(GridFSStore):
    """Large parts of what jobs return, in GridFS of the same database.

    Parameters
    ----------
    launchpad_file
        Path of my_launchpad.yaml.
    key
        Field that a file is found by, for maggma.
    """

    def __init__(self, launchpad_file: str, key: str = "_id") -> None:
        self.launchpad_file = launchpad_file
        super().__init__(**_connection(launchpad_file), **BLOBS, key=key)

    name = property(_name)
