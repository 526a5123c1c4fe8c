from __future__ import annotations

import socket

import pytest
from typer.testing import CliRunner

from gan_htvs.core.errors import UserError
from launchers.cli.main import app
from launchers.results.serving import Address, checked_address


@pytest.mark.parametrize(
    ("host", "is_loopback", "url"),
    [
        ("127.0.0.1", True, "http://127.0.0.1:80"),
        ("::1", True, "http://[::1]:80"),
        ("localhost", True, "http://localhost:80"),
        ("0.0.0.0", False, f"http://{socket.gethostname()}:80"),
        ("10.0.0.1", False, "http://10.0.0.1:80"),
        ("example.org", False, "http://example.org:80"),
    ],
)
def test_addresses(host, is_loopback, url):
    address = Address(host, 80)
    assert (address.is_loopback, address.url) == (is_loopback, url)
    assert (address.names is None) != is_loopback


def test_public_address_gives_a_note(free_port, capsys):
    checked_address("127.0.0.1", free_port())
    assert capsys.readouterr().err == ""
    checked_address("0.0.0.0", free_port())
    assert capsys.readouterr().err.startswith("note")


@pytest.mark.parametrize("host", ["", "a..b", "x" * 64, "203.0.113.7", "no.such.host.invalid"])
def test_foreign_address_is_a_user_error(host, free_port):
    with pytest.raises(UserError, match="host"):
        checked_address(host, free_port())


@pytest.mark.parametrize("command", ["explore", "optimade"])
def test_port_in_use_is_a_user_error(command, launchpad_file, free_port):
    pytest.importorskip("optimade" if command == "optimade" else "dash_mp_components")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(app, [command, "--port", port, "-l", str(launchpad_file)])
    assert result.exit_code == 2
    assert "--port" in result.output
