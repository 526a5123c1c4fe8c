"""Parsing of MongoDB addresses and connection strings, with credentials separated.

Messages of this module do not quote the string, because a password with an unescaped character can
end up in any part of it.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import quote

from pymongo.common import VALIDATORS
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

DEFAULT_PORT = 27017

_HOST = re.compile(r"[\w.:%-]+|/[\w./ -]+\.sock")
_CREDENTIAL = re.compile(r"pass(?!es)|pwd|secret|token|mechanismproperties", re.IGNORECASE)
_OLD_TLS = re.compile("ssl_?.", re.IGNORECASE)
_TLS = (
    "those of TLS are tls, tlsCAFile, tlsCertificateKeyFile, tlsCertificateKeyFilePassword, "
    "tlsCRLFile, tlsAllowInvalidCertificates and tlsAllowInvalidHostnames"
)


class Server(NamedTuple):
    """Parts of a host or a connection string."""

    address: str
    """All ``HOST:PORT``; for ``mongodb+srv://`` the DNS name of the SRV record."""
    uri: str
    """The connection string without credentials and options."""
    parts: dict[str, Any]
    """Result of pymongo: nodelist, username, password, database and options (in lower case)."""


def parse(text: str, port: int = DEFAULT_PORT) -> Server:
    """Parse a host, a comma-separated list of hosts, the path of a socket or a connection string.

    Parameters
    ----------
    text
        Host, hosts, path or connection string.
    port
        Default port of the hosts.

    Raises
    ------
    ValueError
        If the text is none of these.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "mongodb", quote(text.strip(), safe="[]:,")
    is_srv = scheme == "mongodb+srv"
    try:
        parts = parse_uri(f"mongodb://{rest}", port, validate=False, normalize=False)
        hosts = [host for host, _ in parts["nodelist"]]
        # The @ of an unescaped password would be parsed as part of the host or path.
        has_stray_at = rest.count("@") > (parts["username"] is not None)
        is_valid = (scheme == "mongodb" or is_srv) and not has_stray_at
    except (PyMongoError, ValueError):
        is_valid = False
    if not is_valid or not all(map(_HOST.fullmatch, hosts)):
        raise ValueError(
            "host: must be HOST, HOST:PORT, several with commas, or a connection string "
            "mongodb://USER:PASSWORD@HOST:PORT/DATABASE?NAME=VALUE with ports up to 65535; "
            "percent-encode special characters of user name and password (@ is %40, : is %3A, "
            "/ is %2F, % is %25)"
        )
    addresses = [_address(host, host_port) for host, host_port in parts["nodelist"]]
    address = f"mongodb+srv://{hosts[0]}" if is_srv else ",".join(addresses)
    uri = address if is_srv else f"mongodb://{quote(address, safe='[]:,')}"
    uri = f"{uri}/{quote(parts['database'])}" if parts["database"] else uri
    return Server(address, uri, parts)


def _address(host: str, port: int | None) -> str:
    if port is None:  # a socket
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_credential(option: str) -> bool:
    """Return whether the value of an option of pymongo must not be shown."""
    return _CREDENTIAL.search(option) is not None


def is_option(name: str) -> bool:
    """Return whether this is the name of an option of pymongo, or of a former TLS option."""
    return name.lower() in VALIDATORS or _OLD_TLS.match(name) is not None


def check_option(name: str, field: str) -> None:
    """Check that this is the name of an option of pymongo, ignoring case.

    Raises
    ------
    ValueError
        If it is not, with the field that contains it.
    """
    if name.lower() not in VALIDATORS:
        shown = name.partition(":")[0]  # `password:secret` without a space is one key
        hint = f"; {_TLS}" if _OLD_TLS.match(name) else ""
        raise ValueError(f"{field}: pymongo has no option {shown!r}{hint}")
