"""The file my_launchpad.yaml, which configures all databases."""

from __future__ import annotations

import difflib
import os
import re
import stat
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote_plus

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from gan_htvs.core.errors import UserError
from gan_htvs.core.settings import first_problem, read_mapping
from launchers.launchpad import mongo_uri

PASSWORD_VARIABLE = "GAN_HTVS_MONGO_PASSWORD"  # noqa: S105
SERVER_TIMEOUT_MS = 10_000
DEFAULT_NAME = "fireworks"
"""FireWorks' default; its commands and ours then use the same database."""
LOOPBACK = frozenset({"127.0.0.1", "localhost"})
FORBIDDEN = '/\\. "$*<>:|?'
"""Characters that are not allowed in names of databases on all systems of MongoDB."""
HINT = "`gan-htvs init` writes one for the embedded database, or use --launchpad FILE"

_PART = re.compile(r"\w{4,}")
"""Part of a credential that must not be shown alone."""
_ADMIN = "admin"
"""Name of the database of the users in a connection string, for authentication."""
_UNSET = (None, False, "", "false")
"""Values of keys that FireWorks 1 wrote into every file."""


def _no_connection_string(text: str) -> str:
    if "://" in text:
        raise ValueError("holds a connection string; put it into host")
    return text


Text = Annotated[str, AfterValidator(_no_connection_string)]


class LaunchpadFile(BaseModel):
    """my_launchpad.yaml: the format of FireWorks with the additional key ``embedded_storage``.

    FireWorks ignores unknown keys; ``lpad -l`` can read the same file.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    host: str = Field(description="host, or connection string without credentials")
    port: int | None = Field(None, ge=1, le=65535)
    name: Text = DEFAULT_NAME
    username: Text | None = None
    password: SecretStr | None = None
    authsource: Text | None = None
    uri_mode: bool = False
    mongoclient_kwargs: dict[str, Any] = Field(default_factory=dict, repr=False, exclude=True)
    logdir: Text | None = None
    strm_lvl: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] | None = "WARNING"
    user_indices: list[str] = Field(default_factory=list)
    wf_user_indices: list[str] = Field(default_factory=list)
    embedded_storage: Path | None = Field(
        None, description="directory of the embedded server; absent for a real MongoDB"
    )

    @model_validator(mode="before")
    @classmethod
    def _normalize(cls, document: Any) -> Any:
        """Move credentials from host and options to their fields, and set FireWorks' defaults."""
        if not isinstance(document, dict) or "host" not in document:
            return document
        _check_keys(document)
        # An empty name, for example from an unset variable, is an error below.
        given = {
            key: value
            for key, value in document.items()
            if value is not None and (value != "" or key == "name")
        }
        host = given.setdefault("host", "localhost")
        options = given.get("mongoclient_kwargs", {})
        if not isinstance(host, str) or not isinstance(options, dict):
            return given  # pydantic reports the problem
        server = mongo_uri.parse(host)
        uri_options, database = server.parts["options"], server.parts["database"]
        for field, names in (("mongoclient_kwargs", options), ("host", uri_options)):
            for name in names:
                mongo_uri.check_option(str(name), field)
        given_options = (*uri_options.items(), *options.items())
        options = {key.lower(): value for key, value in given_options if value is not None}
        uri_mode = given.get("uri_mode") not in _UNSET
        if "://" in host:
            _check_name(given, database)
            given |= {"host": server.uri, "port": None, "uri_mode": True}
        elif uri_mode:
            raise ValueError("uri_mode: needs a connection string mongodb://... as host")
        if uri_mode and given.get("authsource") == given["name"]:
            del given["authsource"]  # written by `lpad init`; FireWorks ignores it
        _merge_credentials(given, server, options)
        if not uri_mode and database is None and "username" in given:
            given.setdefault("authsource", given.get("name", DEFAULT_NAME))
        return given | {"mongoclient_kwargs": options}

    @field_validator("name")
    @classmethod
    def _check_database_name(cls, name: str) -> str:
        if not name or set(name) & set(FORBIDDEN):
            shown = "it" if "@" in name else repr(name)  # may be USER:PASSWORD@HOST
            raise ValueError(f"{shown} must be one or more characters other than {FORBIDDEN}")
        return name

    @model_validator(mode="after")
    def _check_embedded_is_local(self) -> LaunchpadFile:
        has_user = self.username is not None or self.password is not None
        is_served_here = self.host in LOOPBACK and self.port is not None
        if self.embedded_storage is not None and (has_user or not is_served_here):
            raise ValueError(
                "embedded_storage needs host: 127.0.0.1 and a port, and has no username or password"
            )
        return self

    @classmethod
    def read(cls, path: Path) -> LaunchpadFile:
        """Read and check a file; ``embedded_storage`` is relative to the folder of the file.

        Raises
        ------
        UserError
            With the file, the field and the fix.
        """
        document = read_mapping(path, HINT)
        try:
            settings = cls.model_validate(document)
        except ValidationError as error:
            # Without the cause, which contains the input.
            raise UserError(f"{path}: {first_problem(error)}.") from None
        if settings.secrets and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise UserError(
                f"{path}: contains a password and is readable for other users; "
                f"run `chmod 600 {path}`, or delete the password and set {PASSWORD_VARIABLE}."
            )
        changes: dict[str, Any] = {}
        if password := os.environ.get(PASSWORD_VARIABLE):
            changes["password"] = SecretStr(password)
        if settings.embedded_storage is not None:
            storage = path.resolve().parent / settings.embedded_storage.expanduser()
            changes["embedded_storage"] = storage.resolve()
        return settings.model_copy(update=changes)

    @property
    def _server(self) -> mongo_uri.Server:
        return mongo_uri.parse(self.host, self.port or mongo_uri.DEFAULT_PORT)

    @property
    def address(self) -> str:
        """Address of the server without credentials."""
        return self._server.address

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        hosts = [host for host, _ in self._server.parts["nodelist"]]
        return all(host in LOOPBACK or host.startswith("/") for host in hosts)

    @property
    def uri(self) -> str:
        """Connection string without credentials; those are among the options of the client."""
        return self._server.uri

    def client_options(self, **defaults: Any) -> dict[str, Any]:
        """Return the options of pymongo's client, including credentials.

        FireWorks, maggma and pymongo all connect with ``MongoClient(uri, **client_options())``.

        Parameters
        ----------
        **defaults
            Options that the file overrides.
        """
        credentials = {"username": self.username, "authsource": self.authsource}
        if self.username is not None and self.password is not None:
            credentials["password"] = self.password.get_secret_value()
        return (
            {"serverselectiontimeoutms": SERVER_TIMEOUT_MS}
            | {key.lower(): value for key, value in defaults.items()}
            | self.mongoclient_kwargs
            | {key: value for key, value in credentials.items() if value is not None}
        )

    @property
    def connection(self) -> dict[str, Any]:
        """Arguments of maggma's stores for the connection to the database."""
        return {
            "database": self.name,
            "uri": self.uri,
            "mongoclient_kwargs": self.client_options(),
        }

    @property
    def secrets(self) -> list[str]:
        """Texts that must not be shown: credentials, and their parts, which pymongo may quote."""
        options = self.mongoclient_kwargs.items()
        values = [str(value) for name, value in options if mongo_uri.is_credential(name)]
        if self.password:
            values.append(self.password.get_secret_value())
        texts = [*values, *map(unquote_plus, values)]
        return [*texts, *(part for text in texts for part in _PART.findall(text))]

    def redact(self, text: str) -> str:
        """Replace all secrets in a text, such as a message of pymongo, by asterisks."""
        for secret in sorted(filter(None, self.secrets), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def _check_keys(document: dict[str, Any]) -> None:
    """Check for misspelled keys and misplaced options, which FireWorks ignores."""
    for key, value in document.items():
        word = str(key).partition(":")[0]  # `password:secret` without a space is one key
        close = difflib.get_close_matches(word, LaunchpadFile.model_fields, 1, cutoff=0.75)
        if mongo_uri.is_option(word) and word.lower() not in LaunchpadFile.model_fields:
            if value not in _UNSET:
                mongo_uri.check_option(word, word)
                raise ValueError(f"{word}: FireWorks ignores it; put it under mongoclient_kwargs")
        elif key not in LaunchpadFile.model_fields and close:
            raise ValueError(f"unknown key {word!r}; perhaps {close[0]!r}")


def _check_name(given: dict[str, Any], database: str | None) -> None:
    """Set the name of the database from a connection string, and check that the file agrees."""
    database = None if database == _ADMIN else database
    name = given.setdefault("name", database)
    if name is None or database not in (None, name):
        raise ValueError(
            f"name: is required, and must not differ from the database {database!r} of the "
            "connection string (?authSource=... names the database of the users)"
        )


def _merge_credentials(
    given: dict[str, Any], server: mongo_uri.Server, options: dict[str, Any]
) -> None:
    """Set fields that can be given in several places, and check that the values agree."""
    for field in ("username", "password", "authsource"):
        values = [given.get(field), server.parts.get(field) or None, options.pop(field, None)]
        values = [value for value in values if value is not None]
        if any(value != values[0] for value in values):
            raise ValueError(
                f"{field}: differs from the value in host or mongoclient_kwargs; keep one"
            )
        if values:
            given[field] = values[0]
