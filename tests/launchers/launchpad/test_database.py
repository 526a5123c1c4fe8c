from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from fireworks import Firework, FWorker, LaunchPad
from fireworks.core.rocket_launcher import launch_rocket
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from gan_htvs.core.errors import UserError
from launchers.launchpad.database import Databases, LaunchpadFile, open_databases
from launchers.launchpad.embedded import EXECUTABLE
from launchers.launchpad.feeder import ReleaseTask

EXTERNAL = {"host": "mongo.example.org", "port": 27017, "name": "search", "username": "ada"}


def write(tmp_path, settings, mode=0o644):
    path = tmp_path / "my_launchpad.yaml"
    path.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings))
    path.chmod(mode)
    return path


def test_one_file_configures_all_stores(tmp_path):
    databases = Databases(LaunchpadFile.read(write(tmp_path, EXTERNAL)))
    outputs = databases.job_store().docs_store
    candidates = databases.store("candidates", key="candidate_id")
    for store in (outputs, candidates):
        assert (store.uri, store.database) == ("mongodb://mongo.example.org:27017", "search")
    assert outputs.collection_name == "outputs"


def test_fireworks_reads_the_same_settings(launchpad_file):
    settings = LaunchpadFile.read(launchpad_file)
    launchpad = LaunchPad.from_file(str(launchpad_file))
    assert (launchpad.host, launchpad.port) == (settings.host, settings.port)
    assert launchpad.name == settings.name


def test_password_readable_by_others_is_a_user_error(tmp_path):
    path = write(tmp_path, EXTERNAL | {"password": "xyzzy"})
    with pytest.raises(UserError, match=r"chmod 600") as error:
        LaunchpadFile.read(path)
    assert "xyzzy" not in str(error.value)
    path.chmod(0o600)
    assert LaunchpadFile.read(path).password.get_secret_value() == "xyzzy"


def test_missing_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"gan-htvs init"):
        LaunchpadFile.read(tmp_path / "my_launchpad.yaml")


def test_unreachable_server_is_a_user_error(tmp_path, free_port):
    port = free_port()
    options = {"mongoclient_kwargs": {"serverSelectionTimeoutMS": 200}}
    path = write(tmp_path, {"host": "127.0.0.1", "port": port, "name": "x"} | options)
    with (
        pytest.raises(UserError, match=f"No MongoDB server responds at 127.0.0.1:{port}"),
        open_databases(path),
    ):
        pass


def test_large_outputs_are_stored_in_gridfs(launchpad_file):
    with open_databases(launchpad_file) as databases, databases.job_store() as store:
        weights = "w" * 20_000_000  # more than the limit of a MongoDB document
        document = {"uuid": "u", "index": 1, "output": {"weights": weights, "steps": 3}}
        store.update(document, key=["uuid", "index"], save={"data": "weights"})
        assert store.get_output("u", load=True) == {"weights": weights, "steps": 3}
        assert "weights" not in str(store.docs_store.query_one({"uuid": "u"}))[:500].replace(
            "'weights': {", ""
        )


@pytest.mark.parametrize("code", [1, 14031])
def test_a_failing_server_is_reported_with_its_folder(launchpad_file, code):
    storage = Databases.read(launchpad_file).settings.embedded_storage
    with pytest.raises(UserError, match="may be full") as error, open_databases(launchpad_file):
        raise OperationFailure("internal server error", code)
    assert str(storage) in str(error.value)


@pytest.fixture
def server_with_users(tmp_path, free_port):
    """Port of an external server with authentication."""
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


def test_external_server_with_users_is_configured_by_the_file(
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
        launchpad.initialize()
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


@pytest.mark.parametrize("uri_mode", [False, True])
def test_connection_string_with_credentials_works(
    tmp_path, server_with_users, uri_mode, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    uri = f"mongodb://ada:xyzzy@127.0.0.1:{server_with_users}/search?authSource=admin"
    path = write(tmp_path, {"host": uri, "port": 27017, "uri_mode": uri_mode}, mode=0o600)
    with open_databases(path) as databases:
        launchpad = databases.launchpad()
        launchpad.initialize()
        task = ReleaseTask(owner="unknown")  # opens the databases of its launchpad
        launchpad.add_wf(Firework(task, spec={"_add_launchpad_and_fw_id": True}))
        launch_rocket(launchpad, FWorker(), strm_lvl="ERROR")
        with databases.job_store() as store:
            store.update({"uuid": "u", "index": 1, "output": 1}, key=["uuid", "index"])
        assert launchpad.fireworks.distinct("state") == ["COMPLETED"]
        with databases.client() as client:
            assert {"fireworks", "outputs"} <= set(client["search"].list_collection_names())
            stored = [
                document
                for name in client["search"].list_collection_names()
                for document in client["search"][name].find()
            ]
    assert "xyzzy" not in str(stored)


@pytest.mark.parametrize("authsource", ["search", "nowhere"])
def test_wrong_authsource_is_a_user_error(tmp_path, server_with_users, authsource):
    user = {"username": "ada", "password": "xyzzy", "name": "search", "authsource": authsource}
    path = write(tmp_path, {"host": "127.0.0.1", "port": server_with_users, **user}, mode=0o600)
    with (
        pytest.raises(UserError, match=rf"ada \(authsource {authsource}\)") as error,
        open_databases(path),
    ):
        pass
    assert "xyzzy" not in str(error.value)


@pytest.fixture
def certificates(tmp_path):
    """A self-signed certificate for 127.0.0.1 with its key, and another certificate."""
    for name in ("server", "other"):
        command = (
            "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 "
            f"-addext subjectAltName=IP:127.0.0.1 -keyout {name}.key -out {name}.pem"
        )
        subprocess.run(
            command.split(),
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
    return tmp_path


@pytest.fixture
def tls_server(certificates, running_server):
    """Port of a TLS relay in front of a server without TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")

    class Relay(socketserver.BaseRequestHandler):
        def handle(self):
            with contextlib.suppress(OSError):
                client = context.wrap_socket(self.request, server_side=True)
                with socket.create_connection(("127.0.0.1", running_server.port)) as server:
                    back = threading.Thread(target=pump, args=(server, client), daemon=True)
                    back.start()
                    pump(client, server)

    def pump(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Relay) as relay:
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        yield relay.server_address[1]
        relay.shutdown()


QUICK = {"serverSelectionTimeoutMS": 3000, "connectTimeoutMS": 1000}


def test_tls_server_is_reached_with_its_certificate(tmp_path, certificates, tls_server):
    ca = str(certificates / "server.pem")
    options = {"tls": True, "tlsCAFile": ca, "directConnection": True}
    in_file = {"host": "127.0.0.1", "port": tls_server, "name": "x", "mongoclient_kwargs": options}
    query = f"tls=true&tlsCAFile={ca}&directConnection=true"
    in_uri = {"host": f"mongodb://127.0.0.1:{tls_server}/x?{query}"}
    for settings in (in_file, in_uri):
        with open_databases(write(tmp_path, settings)) as databases, databases.job_store() as store:
            assert store.count() == 0
            assert databases.launchpad().fireworks.count_documents({}) == 0


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"tls": True}, "certificate verify failed"),
        ({"tls": True, "tlsCAFile": "other.pem"}, "certificate verify failed"),
        ({"tls": True, "tlsCAFile": "absent.pem"}, "No such file.*absent.pem"),
        ({"tls": True, "tlsCAFile": "server.key"}, "server.key"),
        ({"tls": True, "tlsCertificateKeyFile": "server.pem"}, "server.pem"),
        ({"replicaSet": "rs0", "tls": True, "tlsCAFile": "server.pem"}, 'name "rs0"'),
        ({"tlsCAfile": "server.pem", "tls": False}, "tls"),
        ({"retryWritez": True}, "retryWritez"),
        ({"retryWrites": 5}, "retrywrites"),
        ({"authMechanism": "MONGODB-X509", "authSource": "x"}, "external"),
        ({}, r"tls\?"),
    ],
)
def test_failed_handshake_is_a_user_error_with_the_cause(
    tmp_path, certificates, tls_server, options, cause
):
    files = {
        key: str(certificates / value) if str(value).endswith((".pem", ".key")) else value
        for key, value in options.items()
    }
    settings = {"host": "127.0.0.1", "port": tls_server, "name": "x", "username": None}
    path = write(tmp_path, settings | {"mongoclient_kwargs": QUICK | files})
    with pytest.raises(UserError, match=cause) as error, open_databases(path):
        pass
    assert "No MongoDB server" not in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("options", [{"tls": True}, {"replicaset": "rs1"}])
def test_server_without_tls_or_replica_set_is_a_user_error(tmp_path, running_server, options):
    settings = {"host": "127.0.0.1", "port": running_server.port, "name": "x"}
    path = write(tmp_path, settings | {"mongoclient_kwargs": QUICK | options})
    with (
        pytest.raises(UserError, match=f"fails: .*{next(iter(options))}") as error,
        open_databases(path),
    ):
        pass
    assert "No MongoDB server" not in str(error.value)


def test_missing_write_permission_is_a_user_error(tmp_path, server_with_users, monkeypatch):
    monkeypatch.setenv("GAN_HTVS_MONGO_PASSWORD", "xyzzy")
    user = {"name": "search", "username": "reader", "authsource": "search"}
    path = write(tmp_path, {"host": "127.0.0.1", "port": server_with_users, **user})
    with (
        pytest.raises(UserError, match=r"reader.*readWrite") as error,
        open_databases(path) as databases,
    ):
        databases.launchpad().initialize()
    assert "xyzzy" not in str(error.value)
