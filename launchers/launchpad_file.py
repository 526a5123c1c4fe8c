"""my_launchpad.yaml, the one file that configures every database."""

from __future__ import annotations

import difflib
import os
import re
import stat
from datetime import date
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, quote_plus, unquote_plus

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Secret,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from gan_htvs.errors import UserError
from gan_htvs.settings import first_problem
from launchers import mongo_uri
from launchers.fireworks_file import read_fireworks_file

PASSWORD_VARIABLE = "GAN_HTVS_MONGO_PASSWORD"  # noqa: S105
SERVER_TIMEOUT_MS = 10_000
DEFAULT_HOST = "localhost"
DEFAULT_PORT = 27017
DEFAULT_NAME = "fireworks"
"""FireWorks' own defaults, so that its commands and ours mean the same database."""
LOOPBACK = frozenset({"127.0.0.1", "localhost"})
FORBIDDEN = '/\\. "$*<>:|?'
"""Which names of databases must not hold, on any system that MongoDB runs on."""
CURE = "`gan-htvs init` writes one for the embedded database, or name yours with --launchpad"

_TEXTS = ("host", "name", "username", "password", "authsource", "logdir")
_ADMIN = "admin"
"""The database that holds users; a connection string names it to authenticate."""


class LaunchpadFile(BaseModel):
    """my_launchpad.yaml: FireWorks' own format, and one key of ours.

    FireWorks ignores keys that it does not know, so ``lpad -l`` reads the same file.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    host: str = Field(description="host, or connection string without credentials")
    port: int | None = Field(None, ge=1, le=mongo_uri.LAST_PORT)
    name: str
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

    @model_validator(mode="before")
    @classmethod
    def _normalize(cls, document: Any) -> Any:
        """Take credentials out of host and options, and fill in FireWorks' defaults."""
        if not isinstance(document, dict) or "host" not in document:
            return document
        _check_keys(document)
        # A name that is "" comes from a variable that is not set, and is refused below.
        given = {
            key: value
            for key, value in document.items()
            if value is not None and (value != "" or key == "name")
        }
        given.setdefault("host", DEFAULT_HOST)
        for key in _TEXTS:
            _check_text(key, given.get(key))
        given["mongoclient_kwargs"] = options = _checked_options(
            given.get("mongoclient_kwargs", {})
        )
        if "://" in given["host"]:
            _take_uri_apart(given, options)
        else:
            _check_plain_host(given)
            given.setdefault("name", DEFAULT_NAME)
        for key in ("username", "password", "authSource"):
            _merge(given, key.lower(), _pop(options, key))
        if not given["uri_mode"] and given.get("username") is not None:
            given.setdefault("authsource", given["name"])
        for key in filter(mongo_uri.is_credential, options):
            options[key] = Secret(options[key])
        return given

    @field_validator("name")
    @classmethod
    def _name_is_one_of_a_database(cls, name: str) -> str:
        if not name or set(name) & set(FORBIDDEN):
            shown = "it" if "@" in name else repr(name)  # perhaps USER:PASSWORD@HOST
            raise ValueError(f"{shown} must be one or more characters other than {FORBIDDEN}")
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
        document = read_fireworks_file(path, CURE)
        try:
            settings = cls.model_validate(document)
        except ValidationError as error:
            # Without the cause, which holds what was read.
            raise UserError(f"{path}: {first_problem(error)}.") from None
        if settings.secrets and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise UserError(
                f"{path}: holds a password but others can read it; "
                f"`chmod 600 {path}`, or delete it there and set {PASSWORD_VARIABLE}."
            )
        changes: dict[str, Any] = {}
        if password := os.environ.get(PASSWORD_VARIABLE):
            changes["password"] = SecretStr(password)
        if settings.embedded_storage is not None:
            storage = path.resolve().parent / settings.embedded_storage.expanduser()
            changes["embedded_storage"] = storage.resolve()
        return settings.model_copy(update=changes)

    @property
    def address(self) -> str:
        """Where the server is, without credentials, for people."""
        if self.host.startswith("/"):  # a socket
            return self.host
        servers = mongo_uri.hosts_of(self.host, self.port or DEFAULT_PORT)
        if self.host.startswith("mongodb+srv:"):
            return f"mongodb+srv://{servers[0][0]}"
        return ",".join(f"{host}:{port}" for host, port in servers)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        servers = mongo_uri.hosts_of(self.host, self.port or DEFAULT_PORT)
        return self.host.startswith("/") or {host for host, _ in servers} <= LOOPBACK

    @property
    def uri(self) -> str:
        """The connection string without credentials, which are among the client's options."""
        return self.host if self.uri_mode else f"mongodb://{quote(self.address, safe='[]:,')}"

    def client_options(self, **defaults: Any) -> dict[str, Any]:
        """Return the options of pymongo's client, credentials among them.

        FireWorks, maggma and pymongo connect alike: ``MongoClient(uri, **client_options())``.

        Parameters
        ----------
        **defaults
            Options that hold unless the file has others.
        """
        options = {
            key: value.get_secret_value() if isinstance(value, Secret) else value
            for key, value in self.mongoclient_kwargs.items()
        }
        if self.username is not None:
            options["username"] = self.username
            if self.password is not None:
                options["password"] = self.password.get_secret_value()
        if self.authsource is not None:
            options["authSource"] = self.authsource
        given = mongo_uri.query_options(self.uri) | {key.lower() for key in options}
        defaults = {"serverSelectionTimeoutMS": SERVER_TIMEOUT_MS} | defaults
        return {key: value for key, value in defaults.items() if key.lower() not in given} | options

    @property
    def connection(self) -> dict[str, Any]:
        """Arguments of maggma's stores that say where the database is."""
        return {
            "database": self.name,
            "uri": self.uri,
            "mongoclient_kwargs": self.client_options(),
        }

    @property
    def secrets(self) -> list[str]:
        """What must not be shown: passwords, and options that hold one, also percent-encoded."""
        hidden = [value for value in self.mongoclient_kwargs.values() if isinstance(value, Secret)]
        values = [value.get_secret_value() for value in [self.password, *hidden] if value]
        parts = [part for value in values for part in _parts(value)]
        return [form for part in parts for form in (part, quote(part), quote_plus(part))]

    def redact(self, text: str) -> str:
        """Replace every secret in a text, such as a message of pymongo, by asterisks."""
        return mongo_uri.redact(text, self.secrets)


def _check_keys(document: dict[str, Any]) -> None:
    """Refuse keys that FireWorks would ignore, and that were meant to say something."""
    ignored = {}
    for key in (key for key in document if key not in LaunchpadFile.model_fields):
        word = str(key).partition(":")[0]  # `password:secret` without a space is one key
        modern = "tls: true" if word.lower() in {"ssl", "tls"} else mongo_uri.modern_option(word)
        is_ours = word.lower() in LaunchpadFile.model_fields  # in other case: a slip
        if modern or (mongo_uri.is_option(word) and not is_ours):
            if document[key] not in _UNSET:
                ignored[word] = modern or word
        elif close := difflib.get_close_matches(word, LaunchpadFile.model_fields, 1, cutoff=0.75):
            raise ValueError(f"unknown key {word!r}; perhaps {close[0]!r}")
    if ignored:
        raise ValueError(
            f"{', '.join(ignored)}: FireWorks ignores that; put "
            f"{', '.join(dict.fromkeys(ignored.values()))} under mongoclient_kwargs"
        )


_UNSET = (None, False, "", "false")


def _check_text(key: str, value: Any) -> None:
    if isinstance(value, bool | int | float | date):
        kind = {bool: "truth value", int: "number", float: "number"}.get(type(value), "date")
        message = f"{key}: must be text, and YAML reads a {kind}; quote it"
        raise ValueError(message)  # noqa: TRY004 - which pydantic takes for a problem of the file
    if value is not None and not isinstance(value, str | SecretStr | dict):
        raise ValueError(f"{key}: must be text")
    if key not in {"host", "password"} and "://" in str(value):
        raise ValueError(f"{key}: holds a connection string; put it into host")


def _checked_options(options: Any) -> Any:
    """Return a copy of mongoclient_kwargs without nulls, and refuse what pymongo 3 called so."""
    if not isinstance(options, dict):
        raise ValueError("mongoclient_kwargs: must be a mapping")  # noqa: TRY004 - as above
    for key, value in options.items():
        field = f"mongoclient_kwargs.{str(key).partition(':')[0]}"
        if key in ("host", "port"):
            raise ValueError(f"{field}: belongs beside mongoclient_kwargs, as {key}")
        if modern := mongo_uri.modern_option(str(key)):
            raise ValueError(f"{field}: pymongo 4 has no such option; write {modern}")
        if mongo_uri.is_credential(str(key)) or str(key).lower() in {"username", "authsource"}:
            _check_text(field, value)
    return {key: value for key, value in options.items() if value is not None}


def _check_plain_host(given: dict[str, Any]) -> None:
    host = given["host"] = given["host"].strip()
    if given.get("uri_mode") not in _UNSET:
        raise ValueError("uri_mode: needs a connection string mongodb://... as host")
    try:
        mongo_uri.check_hosts(host)
    except ValueError as error:
        raise ValueError(f"host: {error}") from None
    given["uri_mode"] = False


def _take_uri_apart(given: dict[str, Any], options: dict[str, Any]) -> None:
    """Put the parts of a connection string where FireWorks has fields for them."""
    try:
        parts = mongo_uri.parse(given["host"])
    except ValueError as error:
        raise ValueError(f"host: {error}") from None
    in_uri = dict(parts.options)
    authsource = _pop(in_uri, "authSource")
    database = None if parts.database == _ADMIN else parts.database
    name = given.setdefault("name", database)
    if name is None:
        raise ValueError("name: is required, since the connection string names no database")
    if database is not None and database != name:
        raise ValueError(
            f"name: {name!r} is not the database {database!r} of the connection string; keep one "
            "(?authSource=... names the database of the users)"
        )
    if given.get("uri_mode"):
        # FireWorks ignores the field there, and `lpad init` writes the name into it.
        is_in_options = any(str(key).lower() == "authsource" for key in options)
        if authsource or is_in_options or given.get("authsource") == name:
            given.pop("authsource", None)
    elif authsource is None and parts.database is None:
        authsource = given.get("authsource", name)
    for key, value in (
        ("username", parts.username),
        ("password", parts.password),
        ("authsource", authsource),
    ):
        _merge(given, key, value)
    names = {str(key).lower() for key in options}
    options.update({key: value for key, value in in_uri.items() if key.lower() not in names})
    given |= {"host": parts.uri, "port": None, "uri_mode": True}


def _pop(options: dict[str, Any], name: str) -> Any:
    """Take an option out, in whatever case it is written."""
    found = None
    for key in [key for key in options if str(key).lower() == name.lower()]:
        found = options.pop(key)
    return found


def _merge(given: dict[str, Any], key: str, value: Any) -> None:
    """Set a field that may be given in two places, if they agree."""
    if value is None:
        return
    known = given.setdefault(key, value)
    if _plain(known) != _plain(value):
        raise ValueError(
            f"{key}: two different ones, in `{key}` and in host or mongoclient_kwargs; keep one"
        )


def _plain(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _parts(value: Any) -> list[str]:
    """Return the texts inside a secret, since a message of pymongo may quote one alone."""
    if isinstance(value, dict):
        return [part for item in (*value, *value.values()) for part in _parts(item)]
    if isinstance(value, list):
        return [part for item in value for part in _parts(item)]
    texts = [str(value), unquote_plus(str(value))]
    return [*texts, *(part for text in texts for part in re.findall(r"[^,:]{4,}", text))]
