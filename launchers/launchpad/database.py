"""One file, my_launchpad.yaml, configures every database: launchpad, job store, candidates."""

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
"""Less than SERVER_TIMEOUT_MS, so that a handshake that hangs is named as the cause."""

_SILENT = re.compile("refused|not known|name resolution|No route|unreachable|timed out")
"""What pymongo says when there is no server, rather than one of another kind."""

FIREWORKS_FIELDS = {"name", "logdir", "strm_lvl", "user_indices", "wf_user_indices"}

NOT_ALLOWED = (13, 8000)
"""Error codes of a user without the privilege, of MongoDB and of its Atlas."""


@dataclass(frozen=True)
class Databases:
    """Everything that is kept, as the stores that the libraries want."""

    settings: LaunchpadFile

    @classmethod
    def read(cls, path: Path) -> Databases:
        """Read the databases from a launchpad file; errors as in :meth:`LaunchpadFile.read`."""
        return cls(LaunchpadFile.read(path))

    @classmethod
    def of(cls, launchpad: LaunchPad) -> Databases:
        """Find the databases beside a launchpad, such as the one that a job was taken from."""
        return cls(LaunchpadFile.model_validate(launchpad.to_dict()))

    def launchpad(self) -> CampaignLaunchPad:
        """FireWorks' database of work."""
        s = self.settings
        # FireWorks gives up a socket after this long, unless it is told a connection string.
        patience = {} if s.uri_mode else {"socketTimeoutMS": MONGO_SOCKET_TIMEOUT_MS}
        return CampaignLaunchPad(
            host=s.uri,
            uri_mode=True,
            **s.model_dump(include=FIREWORKS_FIELDS),
            # `rlaunch multi` forks before it connects
            mongoclient_kwargs=s.client_options(connect=False, **patience),
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

    def client(self, **defaults: Any) -> MongoClient[Any]:
        """Connect to the server without any library between.

        Parameters
        ----------
        **defaults
            Options that hold unless the launchpad file has others.
        """
        return MongoClient(self.settings.uri, **self.settings.client_options(**defaults))

    def check(self, file: Path | str = "my_launchpad.yaml") -> None:
        """Make sure that the server answers and lets us in.

        Parameters
        ----------
        file
            What the settings were read from, for messages.

        Raises
        ------
        UserError
            If it does not, with the cause that pymongo gives.
        """
        s = self.settings
        try:
            with self.client(connectTimeoutMS=CONNECT_TIMEOUT_MS) as client:
                client[s.name].list_collection_names()
        # Without the chained error of pymongo, which may quote a credential.
        except OperationFailure as error:
            user = f" to {s.username} (authsource {s.authsource})" if s.username else ""
            raise UserError(
                f"The database {s.name!r} at {s.address} refused access{user}: "
                f"{self._cause(error)}; check username, password ({PASSWORD_VARIABLE}) and "
                f"authsource in {file}."
            ) from None
        except (PyMongoError, ValueError, TypeError, OSError) as error:
            cause = self._cause(error)
            if "SSL" not in cause and _SILENT.search(cause):
                raise UserError(
                    f"No MongoDB answers at {s.address}: {cause}; start it, or correct host and "
                    f"port in {file}."
                ) from None
            options = s.mongoclient_kwargs
            choices = [
                f"mongoclient_kwargs.{name} ({options[name]})"
                for name in options
                if re.match("tls|ssl|replica", name) and not is_credential(name)
            ]
            raise UserError(
                f"The connection to MongoDB at {s.address} fails: {cause}; correct "
                f"{', '.join(choices) or 'host, port, mongoclient_kwargs (tls?)'} in {file}."
            ) from None

    def _cause(self, error: Exception) -> str:
        """Return the message of pymongo on one line and without credentials."""
        text = re.split(r" \(configured timeouts|, Timeout: |, full error: ", str(error))[0]
        return self.settings.redact(" ".join(text.split()).rstrip("."))


@contextmanager
def open_databases(path: Path) -> Iterator[Databases]:
    """Connect to what a launchpad file names; an embedded server runs while it is needed.

    Raises
    ------
    UserError
        If the file is wrong, the server cannot be reached, or it goes away inside the block.
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
