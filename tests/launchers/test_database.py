from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fireworks import LaunchPad
from pymongo import MongoClient

from gan_htvs.errors import UserError
from launchers.database import Databases, LaunchpadFile, open_databases
from launchers.embedded import EXECUTABLE

REAL = {"host": "mongo.example.org", "port": 27017, "name": "search", "username": "ada"}


def write(tmp_path, settings, mode=0o644):
    path = tmp_path / "my_launchpad.yaml"
    path.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings))
    path.chmod(mode)
    return path


def test_one_file_configures_all_stores(tmp_path):
    databases = Databases(LaunchpadFile.read(write(tmp_path, REAL)))
    outputs = databases.job_store().docs_store
    candidates = databases.store("candidates", key="candidate_id")
    for store in (outputs, candidates):
        assert (store.uri, store.database) == ("mongodb://mongo.example.org:27017", "search")
    assert outputs.collection_name == "outputs"


def test_fireworks_reads_the_same_file(launchpad_file):
    ours = LaunchpadFile.read(launchpad_file)
    theirs = LaunchPad.from_file(str(launchpad_file))
    assert (theirs.host, theirs.port, theirs.name) == (ours.host, ours.port, ours.name)


def test_password_comes_from_the_environment_and_is_never_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("GAN_HTVS_MONGO_PASSWORD", "xyzzy")
    settings = LaunchpadFile.read(write(tmp_path, REAL))
    assert settings.password.get_secret_value() == "xyzzy"
    assert "xyzzy" not in repr(settings)
    assert "xyzzy" not in repr(Databases(settings))


def test_a_password_that_others_can_read_is_refused(tmp_path):
    path = write(tmp_path, REAL | {"password": "xyzzy"})
    with pytest.raises(UserError, match=r"chmod 600") as error:
        LaunchpadFile.read(path)
    assert "xyzzy" not in str(error.value)
    path.chmod(0o600)
    assert LaunchpadFile.read(path).password.get_secret_value() == "xyzzy"


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ("host: [", "not valid YAML"),
        ("- a list", "expected a mapping of settings"),
        ({"port": 27017}, "host"),
        ({"host": "127.0.0.1", "port": "many"}, "port"),
        ({"host": "elsewhere", "port": 1, "embedded_storage": "x"}, "embedded_storage"),
    ],
)
def test_malformed_files_get_one_sentence(tmp_path, settings, complaint):
    path = write(tmp_path, settings)
    with pytest.raises(UserError, match=complaint) as error:
        LaunchpadFile.read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_names_the_cure(tmp_path):
    with pytest.raises(UserError, match=r"gan-htvs init"):
        LaunchpadFile.read(tmp_path / "my_launchpad.yaml")


def test_a_server_that_does_not_answer_is_named(tmp_path, free_port):
    port = free_port()
    options = {"mongoclient_kwargs": {"serverSelectionTimeoutMS": 200}}
    path = write(tmp_path, {"host": "127.0.0.1", "port": port, "name": "x"} | options)
    with (
        pytest.raises(UserError, match=f"No MongoDB answers at 127.0.0.1:{port}"),
        open_databases(path),
    ):
        pass


def test_a_uri_that_is_none_gets_one_sentence_without_its_password(tmp_path):
    uri = {"host": "mongodb://ada:xyzzy@127.0.0.1:99999/", "uri_mode": True, "name": "x"}
    path = write(tmp_path, uri, mode=0o600)
    with pytest.raises(UserError, match="host: ports are numbers") as error, open_databases(path):
        pass
    assert "xyzzy" not in str(error.value)


def test_large_outputs_travel_through_gridfs(launchpad_file):
    with open_databases(launchpad_file) as databases, databases.job_store() as store:
        weights = "w" * 20_000_000  # more than a MongoDB document may hold
        document = {"uuid": "u", "index": 1, "output": {"weights": weights, "steps": 3}}
        store.update(document, key=["uuid", "index"], save={"data": "weights"})
        assert store.get_output("u", load=True) == {"weights": weights, "steps": 3}
        assert "weights" not in str(store.docs_store.query_one({"uuid": "u"}))[:500].replace(
            "'weights': {", ""
        )


@pytest.fixture
def server_with_users(tmp_path, free_port):
    """A server that somebody else runs, with authentication, and its port."""
    port = free_port()
    command = [
        str(Path(sys.executable).with_name(EXECUTABLE)),
        *("--host", "127.0.0.1", "--port", str(port), "--sync-on-commit"),
        *("--storage-path", str(tmp_path / "elsewhere")),
    ]
    with running(command), MongoClient("127.0.0.1", port) as client:
        client.admin.command("createUser", "ada", pwd="xyzzy", roles=["root"])
        reads = [{"role": "read", "db": "search"}]
        client.search.command("createUser", "reader", pwd="xyzzy", roles=reads)
    with running([*command, "--auth"]):
        yield port


@contextlib.contextmanager
def running(command):
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = int(command[command.index("--port") + 1])
        with MongoClient("127.0.0.1", port, serverSelectionTimeoutMS=30_000) as client:
            client.admin.command("ping")
        yield
    finally:
        server.terminate()
        server.wait()


def test_an_external_server_with_users_needs_only_the_file(
    tmp_path, server_with_users, monkeypatch
):
    monkeypatch.setenv("GAN_HTVS_MONGO_PASSWORD", "xyzzy")
    settings = {
        "host": "127.0.0.1",
        "port": server_with_users,
        "name": "search",
        "username": "ada",
        "authsource": "admin",
    }
    path = write(tmp_path, settings)
    with open_databases(path) as databases:
        launchpad = databases.launchpad()
        launchpad.initialise()
        assert launchpad.get_new_fw_id() == 1
        with databases.job_store() as store:
            store.update(
                {"uuid": "u", "index": 1, "output": {"weights": "w"}},
                key=["uuid", "index"],
                save={"data": "weights"},
            )
            assert store.get_output("u", load=True) == {"weights": "w"}

    monkeypatch.setenv("GAN_HTVS_MONGO_PASSWORD", "wrong")
    with pytest.raises(UserError, match="refused access") as error, open_databases(path):
        pass
    assert "wrong" not in str(error.value)


def test_who_may_not_write_is_told_so(tmp_path, server_with_users, monkeypatch):
    monkeypatch.setenv("GAN_HTVS_MONGO_PASSWORD", "xyzzy")
    user = {"name": "search", "username": "reader", "authsource": "search"}
    path = write(tmp_path, {"host": "127.0.0.1", "port": server_with_users, **user})
    with (
        pytest.raises(UserError, match=r"does not let reader do this.*readWrite") as error,
        open_databases(path) as databases,
    ):
        databases.launchpad().initialise()
    assert "xyzzy" not in str(error.value)


def test_a_misspelt_key_is_told_but_those_of_others_are_not(tmp_path):
    with pytest.raises(UserError, match="'embeded_storage'; perhaps 'embedded_storage'"):
        LaunchpadFile.read(write(tmp_path, REAL | {"embeded_storage": "x"}))
    assert LaunchpadFile.read(write(tmp_path, REAL | {"ssl_ca_certs": None})).host == REAL["host"]
