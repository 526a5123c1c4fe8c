"""Addresses of the web servers, and warnings about who can reach them."""

from __future__ import annotations

import ipaddress
import socket
from typing import NamedTuple

from gan_htvs.core.errors import UserError
from launchers.console import output as console

LOOPBACK = "127.0.0.1"


class Address(NamedTuple):
    """Host and port of a server."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """URL for a browser."""
        is_any = self.host in ("0.0.0.0", "::")  # noqa: S104 - a comparison
        host = socket.gethostname() if is_any else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            addresses = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError:
            return False
        return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in addresses)

    @property
    def names(self) -> frozenset[str] | None:
        """Accepted host names of requests; None (any) if other machines can reach the server."""
        names = frozenset({"localhost", "127.0.0.1", "[::1]", self.host})
        return names if self.is_loopback else None


def checked_address(host: str, port: int) -> Address:
    """Check that a server can listen at an address; warn if other machines can reach it.

    Raises
    ------
    UserError
        If the port is in use, or the host is not an address of this machine.
    """
    if not host:
        raise UserError("--host must be an address of this machine, such as 127.0.0.1.")
    address = Address(host, port)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "invalid host name"
        raise UserError(
            f"Cannot listen at {host}:{port}: {reason}; choose another --port, "
            "or a --host of this machine."
        ) from error
    if not address.is_loopback:
        console.note(
            f"every machine that can reach {address.url} can read all candidates, without password "
            "or encryption. Use a proxy that provides both, or omit --host and forward the port: "
            f"ssh -L {port}:{LOOPBACK}:{port} {socket.gethostname()}"
        )
    return address
