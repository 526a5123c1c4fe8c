"""Servers of ours: where they listen, and what that means."""

from __future__ import annotations

import ipaddress
import socket
from typing import NamedTuple

from gan_htvs.core.errors import UserError
from launchers.console import output as console

LOOPBACK = "127.0.0.1"


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """What to type into a browser."""
        is_any = self.host in ("0.0.0.0", "::")  # noqa: S104 - a comparison
        host = socket.gethostname() if is_any else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError:
            return False
        return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in found)

    @property
    def names(self) -> frozenset[str] | None:
        """Names by which browsers of this machine request it; None: others do, by any name."""
        names = frozenset({"localhost", "127.0.0.1", "[::1]", self.host})
        return names if self.is_loopback else None


def checked_address(host: str, port: int) -> Address:
    """Make sure that a server can listen there, and say so if others can reach it.

    Raises
    ------
    UserError
        If the port is taken, or the host is none of this machine.
    """
    if not host:
        raise UserError("--host: an address of this machine, such as 127.0.0.1.")
    address = Address(host, port)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "that is no host"
        raise UserError(
            f"Nothing can listen at {host}:{port}: {reason}; choose another --port, "
            "or a --host of this machine."
        ) from error
    if not address.is_loopback:
        console.note(
            f"every machine that reaches {address.url} can read all candidates: there is no "
            "password and no encryption. Put a proxy with both before it, or leave --host out and "
            f"forward the port: ssh -L {port}:{LOOPBACK}:{port} {socket.gethostname()}"
        )
    return address
