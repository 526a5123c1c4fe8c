from __future__ import annotations

import sys
from types import ModuleType
from typing import Self

import pytest

from gan_htvs.core.errors import UserError
from gan_htvs.core.mp_client import KEY_VARIABLE, open_client

SETTING = "dataset.source"


class Rester:
    """Substitute of the client, which needs the network."""

    def __init__(self, key: str, **options: bool) -> None:
        self.key = key

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


@pytest.fixture
def rester(monkeypatch) -> None:
    module = ModuleType("mp_api.client")
    module.MPRester = Rester
    monkeypatch.setitem(sys.modules, "mp_api", ModuleType("mp_api"))
    monkeypatch.setitem(sys.modules, "mp_api.client", module)
    monkeypatch.setenv(KEY_VARIABLE, "key")


def test_client_has_the_key_of_the_user(rester):
    with open_client(SETTING) as client:
        assert client.key == "key"


def test_missing_key_is_a_user_error(monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setattr("gan_htvs.core.mp_client.SETTINGS", {})
    with pytest.raises(UserError, match=r"dataset\.source .*MP_API_KEY"):
        open_client(SETTING).__enter__()


def test_missing_package_is_a_user_error(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "key")
    monkeypatch.setitem(sys.modules, "mp_api.client", None)
    with pytest.raises(UserError, match=r"dataset\.source .*pip install 'gan-htvs\[mp\]'"):
        open_client(SETTING).__enter__()


def test_failed_request_is_a_user_error_in_one_line(rester):
    with (
        pytest.raises(UserError, match=r"dataset\.source .*\(no route to host\)[^\n]*$"),
        open_client(SETTING),
    ):
        raise ConnectionError("no route to host\nand forty more lines")
