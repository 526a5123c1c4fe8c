"""One file, my_launchpad.yaml, configures every database: launchpad, job store, candidates."""

from __future__ import annotations

import difflib
import os
import stat
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from jobflow import JobStore
from maggma.stores import GridFSStore, MongoStore
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from gan_htvs.errors import UserError
from launchers.embedded import EmbeddedServer
from launchers.launchpad import CampaignLaunchPad

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fireworks import LaunchPad

PASSWORD_VARIABLE = "GAN_HTVS_MONGO_PASSWORD"  # noqa: S105
DEFAULT_FILE = Path("my_launchpad.yaml")
SERVER_TIMEOUT_MS = 10_000
NOT_ALLOWED = (13, 8000)
"""Error codes of a user without the privilege, of MongoDB and of its Atlas."""


class LaunchpadFile(BaseModel):
    """my_launchpad.yaml: FireWorks' own format, and one key of ours.

    FireWorks ignores keys that it does not know, so ``lpad -l`` reads the same file.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    host: str
    port: int | None = Field(None, ge=1, le=65535)
    name: str = Field("gan_htvs", pattern=r"^[^/\\. \"$*<>:|?]+$")
    username: str | None = None
    password: SecretStr | None = None
    authsource: str | None = None
    uri_mode: bool = False
    mongoclient_kwargs: dict[str, Any] = Field(default_factory=dict)
    logdir: str | None = None
    strm_lvl: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] | None = "WARNING"
    user_indices: list[str] = Field(default_factory=list)
    wf_user_indices: list[str] = Field(default_factory=list)
    embedded_storage: Path | None = Field(
        None, description="directory of the embedded server; absent for a real MongoDB"
    )

    @model_validator(mode="after")
    def _embedded_is_local(self) -> LaunchpadFile:
        if self.embedded_storage is not None:
            if self.uri_mode or self.host not in {"127.0.0.1", "localhost"}:
                raise ValueError("embedded_storage needs host: 127.0.0.1 and no uri_mode")
            if self.port is None:
                raise ValueError("embedded_storage needs a port")
            if self.username or self.password:
                raise ValueError("the embedded database has no users: delete username, password")
        return self

    @classmethod
    def read(cls, path: Path) -> LaunchpadFile:
        """Read and check a file; a relative ``embedded_storage`` starts at the file's folder.

        Raises
        ------
        UserError
            One sentence with the file, the field and the cure.
        """
        document = _mapping_in(path)
        password = os.environ.get(PASSWORD_VARIABLE)
        if password:
            document["password"] = password
        elif _holds_password(document) and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise UserError(
                f"{path}: holds a password but others can read it; "
                f"`chmod 600 {path}` or set {PASSWORD_VARIABLE} instead."
            )
        for key in document.keys() - cls.model_fields.keys():
            # FireWorks ignores what it does not know, but a slip of the finger is worth a word.
            if close := difflib.get_close_matches(str(key), cls.model_fields, n=1, cutoff=0.75):
                raise UserError(f"{path}: unknown key {key!r}; perhaps {close[0]!r}.")
        try:
            settings = cls.model_validate(document)
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(str(part) for part in problem["loc"])
            text = problem["msg"].removeprefix("Value error, ")
            raise UserError(f"{path}: {field + ': ' if field else ''}{text}.") from error
        if settings.embedded_storage is None:
            return settings
        storage = (path.resolve().parent / settings.embedded_storage.expanduser()).resolve()
        return settings.model_copy(update={"embedded_storage": storage})

    @property
    def address(self) -> str:
        """Where the server is, without credentials."""
        return "the URI in my_launchpad.yaml" if self.uri_mode else f"{self.host}:{self.port}"


def _mapping_in(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: not found; `gan-htvs init` writes one for the embedded database, "
            "or name yours with --launchpad."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}:{where} is not valid YAML.") from error
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected FireWorks' launchpad settings (host, port, name).")
    return document


def _holds_password(document: dict[str, Any]) -> bool:
    """Whether there is one, on its own or inside a connection string."""
    return bool(document.get("password")) or "@" in str(document.get("host", ""))


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
            self._password,
            s.logdir,
            s.strm_lvl,
            s.user_indices,
            s.wf_user_indices,
            s.authsource,
            s.uri_mode,
            {"connect": False, **self._client_options},  # `rlaunch multi` forks before it connects
        )

    def job_store(self) -> JobStore:
        """Jobflow's outputs, with large objects in GridFS."""
        blobs = GridFSStore(
            collection_name="outputs_blobs",
            compression=True,
            ensure_metadata=True,
            **self._connection,
        )
        return JobStore(self.store("outputs", key="uuid"), additional_stores={"data": blobs})

    def store(self, collection: str, key: str) -> MongoStore:
        """One collection as a maggma store."""
        return MongoStore(collection_name=collection, key=key, **self._connection)

    @property
    def _password(self) -> str | None:
        return self.settings.password.get_secret_value() if self.settings.password else None

    @property
    def _client_options(self) -> dict[str, Any]:
        return {
            "serverSelectionTimeoutMS": SERVER_TIMEOUT_MS,
            **self.settings.mongoclient_kwargs,
        }

    @property
    def _connection(self) -> dict[str, Any]:
        s = self.settings
        common = {"database": s.name, "mongoclient_kwargs": dict(self._client_options)}
        if s.uri_mode:
            return common | {"uri": s.host}
        return common | {
            "host": s.host,
            "port": s.port or 27017,
            "username": s.username or "",
            "password": self._password or "",
            "auth_source": s.authsource,
        }

    def check(self) -> None:
        """Make sure that the server answers and lets us in.

        Raises
        ------
        UserError
            If it does not.
        """
        s = self.settings
        options: dict[str, Any] = dict(self._client_options)
        if not s.uri_mode:
            options["port"] = s.port
        if s.username:
            options |= {
                "username": s.username,
                "password": self._password,
                "authSource": s.authsource or s.name,
            }
        try:
            client: MongoClient[Any] = MongoClient(s.host, **options)
            with client:
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
