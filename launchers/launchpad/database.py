"""Databases configured by my_launchpad.yaml: launchpad, job store, candidates."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fireworks.fw_config import MONGO_SOCKET_TIMEOUT_MS
from jobflow import JobStore
from maggma.stores import GridFSStore, MongoStore
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from gan_htvs.core.errors import UserError
from launchers.launchpad.embedded import EmbeddedServer
from launchers.launchpad.jobs import CampaignLaunchPad
from launchers.launchpad.launchpad_file import PASSWORD_VARIABLE, LaunchpadFile
from launchers.launchpad.mongo_uri import is_credential
from launchers.launchpad.stores import BLOBS, OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from fireworks import LaunchPad

CONNECT_TIMEOUT_MS = 5_000
"""Less than SERVER_TIMEOUT_MS, so that pymongo reports a hanging handshake as the cause."""

_SILENT = re.compile("refused|not known|name resolution|No route|unreachable|timed out")
"""Messages of pymongo if no server responds, in contrast to a failed handshake."""

FIREWORKS_FIELDS = {"name", "logdir", "strm_lvl", "user_indices", "wf_user_indices"}

NOT_ALLOWED = (13, 8000)
"""Error codes of MongoDB and Atlas for a missing privilege."""

SERVER_FAILED = (1, 14031)
"""Error codes of MongoDB for internal errors, and for a full disk."""


@dataclass(frozen=True)
class Databases:
    """The databases of a launchpad file, as stores of FireWorks, jobflow, maggma and pymongo."""

    settings: LaunchpadFile

    @classmethod
    def read(cls, path: Path) -> Databases:
        """Read the databases from a launchpad file; errors as in :meth:`LaunchpadFile.read`."""
        return cls(LaunchpadFile.read(path))

    @classmethod
    def of(cls, launchpad: LaunchPad) -> Databases:
        """Return the databases on the server of a launchpad, such as that of a running job."""
        return cls(LaunchpadFile.model_validate(launchpad.to_dict()))

    def launchpad(self) -> CampaignLaunchPad:
        """Return the launchpad of FireWorks."""
        s = self.settings
        return CampaignLaunchPad(
            host=s.uri,
            uri_mode=True,
            **s.model_dump(include=FIREWORKS_FIELDS),
            # FireWorks sets its timeout only without a connection string. `rlaunch multi` forks
            # before it connects.
            mongoclient_kwargs=s.client_options(
                connect=False, socketTimeoutMS=MONGO_SOCKET_TIMEOUT_MS
            ),
        )

    def job_store(self) -> JobStore:
        """Return jobflow's store of outputs, with large objects in GridFS."""
        connection = self.settings.connection
        blobs = GridFSStore(**BLOBS, **connection)
        return JobStore(MongoStore(**OUTPUTS, **connection), additional_stores={"data": blobs})

    def store(self, collection: str, key: str) -> MongoStore:
        """Return a collection as a maggma store."""
        return MongoStore(collection_name=collection, key=key, **self.settings.connection)

    def stored(self, uuids: Iterable[str]) -> set[str]:
        """Return the uuids of those jobs whose output is stored."""
        with self.store("outputs", key="uuid") as outputs:
            return set(outputs.distinct("uuid", {"uuid": {"$in": sorted(set(uuids))}}))

    def client(self, **defaults: Any) -> MongoClient[Any]:
        """Return a pymongo client of the server.

        Parameters
        ----------
        **defaults
            Options that the launchpad file overrides.
        """
        return MongoClient(self.settings.uri, **self.settings.client_options(**defaults))

    def check(self, file: Path | str = "my_launchpad.yaml") -> None:
        """Check that the server responds and grants access.

        Parameters
        ----------
        file
            Launchpad file, for messages.

        Raises
        ------
        UserError
            If it does not, with the cause reported by pymongo.
        """
        try:
            with self.client(connectTimeoutMS=CONNECT_TIMEOUT_MS) as client:
                client[self.settings.name].list_collection_names()
        except (PyMongoError, ValueError, TypeError, OSError) as error:
            # Without the chained error of pymongo, which may contain a credential.
            raise UserError(f"{self._problem(error)} in {file}.") from None

    def _problem(self, error: Exception) -> str:
        """Return what is wrong with the connection and what to correct, without credentials."""
        s = self.settings
        text = re.split(r" \(configured timeouts|, Timeout: |, full error: ", str(error))[0]
        cause = s.redact(" ".join(text.split()).rstrip("."))
        if isinstance(error, OperationFailure):
            user = f" to {s.username} (authsource {s.authsource})" if s.username else ""
            return (
                f"The database {s.name!r} at {s.address} refused access{user}: {cause}; check "
                f"username, password ({PASSWORD_VARIABLE}) and authsource"
            )
        if "SSL" not in cause and _SILENT.search(cause):
            return (
                f"No MongoDB server responds at {s.address}: {cause}; start it, or correct host "
                "and port"
            )
        choices = [
            f"mongoclient_kwargs.{name} ({value})"
            for name, value in s.mongoclient_kwargs.items()
            if re.match("tls|ssl|replica", name) and not is_credential(name)
        ]
        return (
            f"The connection to MongoDB at {s.address} fails: {cause}; correct "
            f"{', '.join(choices) or 'host, port, mongoclient_kwargs (tls?)'}"
        )


@contextmanager
def open_databases(path: Path) -> Iterator[Databases]:
    """Open the databases of a launchpad file; an embedded server runs inside the block.

    Raises
    ------
    UserError
        If the file is invalid, the server cannot be reached, or the connection is lost.
    """
    databases = Databases.read(path)
    settings = databases.settings
    server: AbstractContextManager[None] = nullcontext()
    if settings.embedded_storage is not None and settings.port is not None:
        server = EmbeddedServer(settings.embedded_storage, port=settings.port).serving()
    with server:
        databases.check(path)
        try:
            yield databases
        except OperationFailure as error:
            if error.code in SERVER_FAILED:
                at = settings.embedded_storage or settings.address
                raise UserError(
                    f"The database server failed (error {error.code}). Its disk ({at}) may be "
                    "full: free some space, then run the same command again to continue."
                ) from error
            if error.code not in NOT_ALLOWED:
                raise
            raise UserError(
                f"The database {settings.name!r} at {settings.address} denied an operation of "
                f"user {settings.username or 'anonymous'}: ask its administrator for the role "
                "readWrite, or set another username in my_launchpad.yaml."
            ) from error
        except PyMongoError as error:
            raise UserError(
                f"The connection to the database at {settings.address} was lost; acknowledged "
                "writes are on disk; run the same command again to continue."
            ) from error
