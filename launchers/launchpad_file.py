"""my_launchpad.yaml, the one file that configures every database."""

from __future__ import annotations

import difflib
import os
import stat
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from gan_htvs.errors import UserError
from gan_htvs.settings import first_problem, read_mapping

PASSWORD_VARIABLE = "GAN_HTVS_MONGO_PASSWORD"  # noqa: S105
SERVER_TIMEOUT_MS = 10_000
DEFAULT_PORT = 27017
LOOPBACK = frozenset({"127.0.0.1", "localhost"})
FORBIDDEN = '/\\. "$*<>:|?'
"""Which names of databases must not hold, on any system that MongoDB runs on."""
CURE = "`gan-htvs init` writes one for the embedded database, or name yours with --launchpad"


class LaunchpadFile(BaseModel):
    """my_launchpad.yaml: FireWorks' own format, and one key of ours.

    FireWorks ignores keys that it does not know, so ``lpad -l`` reads the same file.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    host: str
    port: int | None = Field(None, ge=1, le=65535)
    name: str = "gan_htvs"
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

    @field_validator("name")
    @classmethod
    def _name_is_one_of_a_database(cls, name: str) -> str:
        if not name or set(name) & set(FORBIDDEN):
            raise ValueError(f"{name!r} must be one or more characters other than {FORBIDDEN}")
        return name

    @model_validator(mode="after")
    def _embedded_is_local(self) -> LaunchpadFile:
        if self.embedded_storage is not None:
            if self.uri_mode or self.host not in LOOPBACK:
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
        document = read_mapping(path, CURE)
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
            raise UserError(f"{path}: {first_problem(error)}.") from error
        if settings.embedded_storage is None:
            return settings
        storage = (path.resolve().parent / settings.embedded_storage.expanduser()).resolve()
        return settings.model_copy(update={"embedded_storage": storage})

    @property
    def address(self) -> str:
        """Where the server is, without credentials, for people."""
        if self.uri_mode:
            return "the URI in my_launchpad.yaml"
        return f"{self.host}:{self.port or DEFAULT_PORT}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return not self.uri_mode and self.host in LOOPBACK

    @property
    def plain_password(self) -> str | None:
        """The password as the libraries want it."""
        return self.password.get_secret_value() if self.password else None

    @property
    def client_options(self) -> dict[str, Any]:
        """Options of pymongo's client."""
        return {"serverSelectionTimeoutMS": SERVER_TIMEOUT_MS, **self.mongoclient_kwargs}

    @property
    def connection(self) -> dict[str, Any]:
        """Arguments of maggma's stores that say where the database is."""
        common = {"database": self.name, "mongoclient_kwargs": self.client_options}
        if self.uri_mode:
            return common | {"uri": self.host}
        return common | {
            "host": self.host,
            "port": self.port or DEFAULT_PORT,
            "username": self.username or "",
            "password": self.plain_password or "",
            "auth_source": self.authsource,
        }


def _holds_password(document: dict[str, Any]) -> bool:
    """Whether there is one, on its own or inside a connection string."""
    return bool(document.get("password")) or "@" in str(document.get("host", ""))
