"""One file, my_launchpad.yaml, configures every database: launchpad, job store, candidates."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobflow import JobStore
from maggma.stores import GridFSStore, MongoStore
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from gan_htvs.errors import UserError
from launchers.embedded import EmbeddedServer
from launchers.launchpad import CampaignLaunchPad
from launchers.launchpad_file import PASSWORD_VARIABLE, LaunchpadFile
from launchers.stores import BLOBS, OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from fireworks import LaunchPad

NOT_ALLOWED = (13, 8000)
"""Error codes of a user without the privilege, of MongoDB and of its Atlas."""


@dataclass(frozen=True)
class Databases:
    """Everything that is kept, as the stores that the libraries want."""

    settings: LaunchpadFile

    @classmethod
    def of(cls, launchpad: LaunchPad) -> Databases:
        """Find the databases beside a launchpad, such as the one that a job was taken from."""
        return cls(LaunchpadFile.model_validate(launchpad.to_dict()))

    def launchpad(self) -> CampaignLaunchPad:
        """FireWorks' database of work."""
        s = self.settings
        return CampaignLaunchPad(
            s.host,
            s.port,
            s.name,
            s.username,
            s.plain_password,
            s.logdir,
            s.strm_lvl,
            s.user_indices,
            s.wf_user_indices,
            s.authsource,
            s.uri_mode,
            {"connect": False, **s.client_options},  # `rlaunch multi` forks before it connects
        )

    def job_store(self) -> JobStore:
        """Jobflow's outputs, with large objects in GridFS."""
        connection = self.settings.connection
        blobs = GridFSStore(**BLOBS, **connection)
        return JobStore(MongoStore(**OUTPUTS, **connection), additional_stores={"data": blobs})

    def store(self, collection: str, key: str) -> MongoStore:
        """One collection as a maggma store."""
        return MongoStore(collection_name=collection, key=key, **self.settings.connection)

    def stored(self, uuids: Iterable[str]) -> set[str]:
        """Find which of these jobs have left their output."""
        with self.store("outputs", key="uuid") as outputs:
            found = outputs.query({"uuid": {"$in": sorted(set(uuids))}}, ["uuid"])
            return {document["uuid"] for document in found}

    def client(self, **options: Any) -> MongoClient[Any]:
        """Connect to the server without any library between."""
        s = self.settings
        options = s.client_options | options
        if not s.uri_mode:
            options["port"] = s.port
        if s.username:
            options |= {
                "username": s.username,
                "password": s.plain_password,
                "authSource": s.authsource or s.name,
            }
        return MongoClient(s.host, **options)

    def check(self) -> None:
        """Make sure that the server answers and lets us in.

        Raises
        ------
        UserError
            If it does not.
        """
        s = self.settings
        try:
            with self.client() as client:
                client[s.name].list_collection_names()
        except OperationFailure as error:
            raise UserError(
                f"The database at {s.address} refused access: check username, password "
                f"({PASSWORD_VARIABLE}) and authsource in my_launchpad.yaml."
            ) from error
        except (PyMongoError, ValueError) as error:  # ValueError: a URI that is none
            raise UserError(
                f"No MongoDB answers at {s.address}: start it, or correct host and port in "
                "my_launchpad.yaml."
            ) from error


@contextmanager
def open_databases(path: Path) -> Iterator[Databases]:
    """Connect to what a launchpad file names; an embedded server runs while it is needed.

    Raises
    ------
    UserError
        If the file is wrong, the server cannot be reached, or it goes away inside the block.
    """
    settings = LaunchpadFile.read(path)
    databases = Databases(settings)
    with _server(settings):
        databases.check()
        try:
            yield databases
        except OperationFailure as error:
            if error.code not in NOT_ALLOWED:
                raise
            raise UserError(
                f"The database {settings.name!r} at {settings.address} does not let "
                f"{settings.username or 'us'} do this: ask its administrator for the role "
                "readWrite, or name another user in my_launchpad.yaml."
            ) from error
        except PyMongoError as error:
            raise UserError(
                f"The database at {settings.address} stopped answering; what it acknowledged is "
                "on disk, and the same command goes on from there."
            ) from error


def _server(settings: LaunchpadFile) -> AbstractContextManager[None]:
    if settings.embedded_storage is None or settings.port is None:
        return nullcontext()
    return EmbeddedServer(settings.embedded_storage, port=settings.port).serving()
