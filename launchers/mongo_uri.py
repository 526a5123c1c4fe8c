"""MongoDB connection strings, taken apart so that no credential stands in an address.

No message of this module quotes the string that it is about: a password with an unescaped
character can end up in any part of it.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from pymongo.common import VALIDATORS
from pymongo.errors import InvalidURI
from pymongo.uri_parser import parse_userinfo

_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[\w.%-]+)(?::\d{1,5})?"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*")
_SOCKET = re.compile(r"/[\w./ -]+\.sock")
_URI = re.compile(
    r"(?P<scheme>mongodb(?:\+srv)?://)(?:(?P<user>[^/?]*)@)?(?P<hosts>[^/?@]+)"
    r"(?:/(?P<database>[^/?@]*))?(?:\?(?P<query>.*))?"
)
_CREDENTIAL = re.compile(r"pass(?!es)|pwd|secret|token|mechanismproperties", re.IGNORECASE)

LAST_PORT = 65535

MODERN_TLS = {
    "sslcacerts": "tlsCAFile",
    "sslcafile": "tlsCAFile",
    "sslcertfile": "tlsCertificateKeyFile (one file with certificate and key)",
    "sslkeyfile": "tlsCertificateKeyFile (one file with certificate and key)",
    "sslpemkeyfile": "tlsCertificateKeyFile",
    "sslpempassphrase": "tlsCertificateKeyFilePassword",
    "sslpemkeypassword": "tlsCertificateKeyFilePassword",
    "sslpassword": "tlsCertificateKeyFilePassword",
    "sslcertreqs": "tlsAllowInvalidCertificates: true for CERT_NONE, nothing for CERT_REQUIRED",
    "sslmatchhostname": "tlsAllowInvalidHostnames, the opposite of it",
    "sslcrlfile": "tlsCRLFile",
}
"""Option of pymongo 3 or FireWorks 1, lower case without underscores -> what pymongo 4 has."""


class ConnectionString(NamedTuple):
    """The parts of a connection string."""

    uri: str
    """Without credentials and without an authentication database."""
    username: str | None
    password: str | None
    database: str | None
    options: dict[str, str]
    """What was taken out of the query: authSource, and options that hold credentials."""


def is_credential(option: str) -> bool:
    """Return whether the value of an option of pymongo must not be shown."""
    return _CREDENTIAL.search(option) is not None


def is_option(name: str) -> bool:
    """Return whether pymongo has an option of this name, in whatever case."""
    return name.lower() in VALIDATORS


def modern_option(name: str) -> str | None:
    """Return what replaces an option of pymongo 3 or FireWorks 1; None for any other."""
    return MODERN_TLS.get(name.lower().replace("_", ""))


def parse(text: str) -> ConnectionString:
    """Take a ``mongodb://`` or ``mongodb+srv://`` string apart.

    Raises
    ------
    ValueError
        If it is malformed or has an option that pymongo would ignore; the message quotes
        nothing but the names of options.
    """
    match = _URI.fullmatch(text)
    if match is None or (match["user"] is None and "@" in (match["query"] or "")):
        raise ValueError(
            "is not a MongoDB connection string mongodb://USER:PASSWORD@HOST:PORT/DATABASE; "
            "percent-encode special characters of user name and password"
        )
    check_hosts(match["hosts"])
    username = password = None
    if match["user"] is not None:
        try:
            username, password = parse_userinfo(match["user"])
        except InvalidURI:
            raise ValueError(
                "percent-encode special characters of user name and password (@ is %40, : is %3A, "
                "/ is %2F, % is %25)"
            ) from None
    kept, taken = _split_query(match["query"] or "")
    path = "" if match["database"] is None else f"/{match['database']}"
    query = f"{'?' if path else '/?'}{kept}" if kept else ""
    database = unquote_plus(match["database"] or "").partition(".")[0]
    return ConnectionString(
        f"{match['scheme']}{match['hosts']}{path}{query}",
        username,
        password or None,
        database or None,
        taken,
    )


def check_hosts(hosts: str) -> None:
    """Check ``HOST[:PORT]``, one or several with commas between, or the path of a socket.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if _SOCKET.fullmatch(hosts):
        return
    if _HOSTS.fullmatch(hosts) is None:
        raise ValueError("must be HOST, HOST:PORT, several with commas, or mongodb://...")
    if any(int(port) > LAST_PORT for port in re.findall(r":(\d+)(?=,|$)", hosts)):
        raise ValueError(f"ports are numbers up to {LAST_PORT}")


def hosts_of(address: str, port: int) -> list[tuple[str, int]]:
    """Return host and port of every server that a connection string or a host names."""
    hosts = address.partition("://")[2] or address
    found = []
    for host in re.split(r"[/?]", hosts)[0].split(","):
        name, _, own = host.rpartition(":") if re.search(r":\d+$", host) else (host, "", "")
        found.append((name, int(own or port)))
    return found


def query_options(uri: str) -> set[str]:
    """Return the names of the options in the query of a connection string, in lower case."""
    query = uri.partition("?")[2]
    return {option.partition("=")[0].lower() for option in re.split("[&;]", query) if option}


def _split_query(query: str) -> tuple[str, dict[str, str]]:
    """Separate what may be shown from what is handed on as keyword arguments."""
    kept, taken = [], {}
    for option in re.split("[&;]", query) if query else ():
        name, equals, value = option.partition("=")
        if not equals or "=" in value:
            raise ValueError("the options after ? are NAME=VALUE with & between")
        if modern := modern_option(name):
            raise ValueError(f"pymongo 4 has no option {name}; write {modern}")
        if not is_option(name) or name.lower() in {"username", "password"}:
            raise ValueError(f"pymongo has no option {name!r} for a connection string")
        if name.lower() == "authsource":
            taken["authSource"] = unquote_plus(value)
        elif is_credential(name):
            # pymongo itself unquotes properties, since they may hold its separators
            is_quoted = "properties" in name.lower()
            taken[name] = value if is_quoted else unquote_plus(value)
        else:
            kept.append(option)
    return "&".join(kept), taken


def redact(text: str, secrets: list[Any]) -> str:
    """Replace every secret in a text by asterisks."""
    for secret in sorted(map(str, secrets), key=len, reverse=True):
        if secret:
            text = text.replace(secret, "***")
    return text
