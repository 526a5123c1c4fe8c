from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from fireworks import Firework, LaunchPad, ScriptTask
from pydantic import ValidationError
from pymongo import MongoClient

from gan_htvs.core.errors import UserError
from gan_htvs.core.settings import first_problem
from launchers.launchpad.embedded import EmbeddedServer
from launchers.launchpad.launchpad_file import LaunchpadFile

ROOT = Path(__file__).parents[3]
LPAD = Path(sys.executable).with_name("lpad")


def test_launchpad_file_of_repository_equals_template():
    shipped = (resources.files("launchers.cli") / "templates" / "my_launchpad.yaml").read_text()
    assert (ROOT / "my_launchpad.yaml").read_text() == shipped


@pytest.fixture
def served_file(tmp_path, free_port):
    """The launchpad file of the repository with another port and a running database."""
    path = tmp_path / "my_launchpad.yaml"
    port = free_port()
    path.write_text((ROOT / "my_launchpad.yaml").read_text().replace("27027", str(port)))
    settings = LaunchpadFile.read(path)
    assert settings.port == port
    assert settings.embedded_storage == tmp_path / "gan_htvs_data" / "database"
    with EmbeddedServer(settings.embedded_storage, port).serving():
        yield path


def test_stock_lpad_reads_launchpad_file_of_repository(served_file):
    launchpad = LaunchPad.from_file(str(served_file))
    launchpad.reset("", require_password=False)
    launchpad.add_wf(Firework(ScriptTask.from_str("true"), name="test"))
    output = subprocess.run(
        [LPAD, "-l", served_file, "get_wflows"],
        cwd=served_file.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    workflow = json.loads(output[output.index("{") :])
    assert workflow["name"] == "test--1"
    assert workflow["state"] == "READY"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("host: db.lab.org", "db.lab.org:27017"),
        ("host: db.lab.org\nport: 27018", "db.lab.org:27018"),
        ("host: db.lab.org:27019\nport: 27018", "db.lab.org:27019"),
        ("host: mongodb://db.lab.org/\nuri_mode: true\nname: x", "db.lab.org:27017"),
        ("host: mongodb://a.org:1,b.org/x?replicaSet=r", "a.org:1,b.org:27017"),
        ("host: mongodb+srv://cluster.lab.org/x", "mongodb+srv://cluster.lab.org"),
        ("host: 'mongodb://[::1]:5/x'", "[::1]:5"),
        ("host: /tmp/mongodb-27017.sock", "/tmp/mongodb-27017.sock"),
    ],
)
def test_address_has_a_port_and_no_credentials(tmp_path, text, address):
    path = tmp_path / "my_launchpad.yaml"
    path.write_text(text)
    assert LaunchpadFile.read(path).address == address


def settings_of(**settings):
    return LaunchpadFile.model_validate({"host": "db.lab.org", **settings})


@pytest.mark.parametrize("blank", [None, ""])
def test_null_and_empty_values_are_fireworks_defaults(blank):
    keys = ("port", "username", "password", "logdir", "strm_lvl", "authsource", "uri_mode")
    keys += ("user_indices", "wf_user_indices", "mongoclient_kwargs", "embedded_storage")
    assert settings_of(**dict.fromkeys(keys, blank)) == settings_of()
    assert settings_of(name=None).name == LaunchPad(mongoclient_kwargs={"connect": False}).name
    assert LaunchpadFile.model_validate({"host": blank}).host == "localhost"


@pytest.mark.parametrize("uri_mode", [False, True])
def test_database_name_in_connection_string_and_file(uri_mode):
    uri = "mongodb://db.lab.org/lab?retryWrites=false"
    assert settings_of(host=uri, uri_mode=uri_mode).name == "lab"
    assert settings_of(host=uri, uri_mode=uri_mode, name="lab").name == "lab"
    at_admin = settings_of(host="mongodb://ada:pw@db.lab.org/admin", uri_mode=uri_mode, name="lab")
    assert at_admin.name == "lab"
    for contradiction in (
        {"host": uri, "name": "other"},
        {"host": "mongodb://db.lab.org", "name": None},
        {"host": "mongodb://db.lab.org/admin"},
        {"host": "mongodb+srv://db.lab.org/?w=1"},
    ):
        with pytest.raises(ValueError, match="name: "):
            settings_of(uri_mode=uri_mode, **contradiction)


@pytest.mark.parametrize(
    ("settings", "authsource"),
    [
        ({"username": "ada", "name": "lab"}, "lab"),
        ({"username": "ada", "name": "lab", "authsource": "admin"}, "admin"),
        ({"host": "mongodb://ada:pw@h/lab?authSource=users"}, "users"),
        ({"host": "mongodb://ada:pw@h", "name": "lab"}, "lab"),
        ({"host": "mongodb://ada:pw@h/lab", "uri_mode": True}, "lab"),
        ({"host": "mongodb://ada:pw@h", "uri_mode": True, "name": "lab"}, "admin"),
        # `lpad init` writes the name of the database as authsource, which FireWorks ignores there.
        (
            {
                "host": "mongodb://ada:pw@h/lab?authSource=users",
                "uri_mode": True,
                "name": "lab",
                "authsource": "lab",
            },
            "users",
        ),
    ],
)
def test_authsource_is_that_of_fireworks(settings, authsource):
    file = settings_of(**{"password": "pw"} | settings)
    options = file.client_options(connect=False)
    of_pymongo = MongoClient(file.uri, **options).get_default_database("admin").name
    assert options.get("authsource", of_pymongo) == authsource
    assert (options["username"], options["password"]) == ("ada", "pw")


def test_contradicting_credentials_are_an_error():
    uri = "mongodb://ada:pw@h/lab"
    assert settings_of(host=uri, username="ada", password="pw").username == "ada"
    for other in (
        {"username": "bob"},
        {"password": "other"},
        {"mongoclient_kwargs": {"PASSWORD": "x"}},
    ):
        with pytest.raises(ValueError, match="keep one"):
            settings_of(host=uri, **other)


@pytest.mark.parametrize("value", ["20201231", "1.5", "true", "2024-01-01", "0123"])
@pytest.mark.parametrize("key", ["password", "username", "name", "authsource"])
def test_unquoted_number_for_text_is_a_user_error(tmp_path, key, value):
    path = tmp_path / "my_launchpad.yaml"
    path.touch(mode=0o600)
    path.write_text(f"host: h\n{key}: {value}\n")
    with pytest.raises(UserError, match=f"{key}: .*quote"):
        LaunchpadFile.read(path)
    path.write_text(f"host: h\nname: lab\nmongoclient_kwargs:\n  {key}: {value}\n")
    if key != "name":
        with pytest.raises(UserError, match=f"{key}: .*quote"):
            LaunchpadFile.read(path)


@pytest.mark.parametrize("word", ["No", "on", "12:34:56", "1-2-3"])
def test_yaml_1_1_booleans_stay_text(tmp_path, word):
    path = tmp_path / "my_launchpad.yaml"
    path.touch(mode=0o600)
    path.write_text(
        f"{{host: h, username: {word}, password: pw, mongoclient_kwargs: {{connect: false}}}}"
    )
    assert LaunchpadFile.read(path).username == word
    assert LaunchPad.from_file(str(path)).username == word


@pytest.mark.parametrize(
    ("key", "value", "modern"),
    [
        ("ssl_ca_certs", "/ca.pem", "tlsCAFile"),
        ("ssl_ca_file", "/ca.pem", "tlsCAFile"),
        ("sslCAFile", "/ca.pem", "tlsCAFile"),
        ("ssl_certfile", "/c.pem", "tlsCertificateKeyFile"),
        ("ssl_keyfile", "/k.pem", "tlsCertificateKeyFile"),
        ("ssl_pem_passphrase", "hidden", "tlsCertificateKeyFilePassword"),
        ("sslPassword", "hidden", "tlsCertificateKeyFilePassword"),
        ("ssl_cert_reqs", "CERT_NONE", "tlsAllowInvalidCertificates"),
        ("ssl_match_hostname", "true", "tlsAllowInvalidHostnames"),
        ("ssl_crlfile", "/crl.pem", "tlsCRLFile"),
    ],
)
def test_old_tls_option_is_an_error_with_its_new_name(key, value, modern):
    for settings in (
        {key: value},
        {"mongoclient_kwargs": {key: value}},
        {"host": f"mongodb://h/lab?{key}={value}"},
    ):
        with pytest.raises(ValueError, match=modern) as error:
            settings_of(**settings)
        assert "hidden" not in str(error.value)
    assert settings_of(**{key: None}) == settings_of(**{key: ""}) == settings_of()


@pytest.mark.parametrize("key", ["tls", "ssl", "tlsCAFile", "replicaSet", "authMechanism"])
def test_pymongo_options_outside_mongoclient_kwargs_are_an_error(key):
    with pytest.raises(ValueError, match="under mongoclient_kwargs"):
        settings_of(**{key: "x"})
    with pytest.raises(ValueError, match=r"ssl: .*under mongoclient_kwargs"):
        settings_of(ssl=True)
    assert settings_of(ssl=False) == settings_of()
    with pytest.raises(ValueError, match="perhaps 'authsource'"):
        settings_of(authSource="admin")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"host": "mongodb://h/lab?retryWritez=true"}, "host: .*no option 'retrywritez'"),
        ({"host": "mongodb://h/lab?tls"}, "NAME=VALUE"),
        ({"host": "mongodb://h:70000/lab"}, "65535"),
        ({"host": "mongodb://ada:p/w@h/lab"}, "percent-encode"),
        ({"host": "mongodb://ada:p%w@h/lab"}, "percent-encode"),
        ({"host": "mongodb://ada:p?w@h/lab"}, "percent-encode"),
        ({"host": "mongodb://ada:1/w@h/lab"}, "percent-encode"),
        ({"host": "http://ada:pw@h/lab"}, "must be HOST"),
        ({"host": "ada:pw@h"}, "must be HOST"),
        ({"host": "h", "uri_mode": True}, "uri_mode"),
        ({"port": "many"}, "port: "),
        ({"port": 1, "embedded_storage": "x"}, "embedded_storage needs host: 127.0.0.1"),
        ({"embeded_storage": "x"}, "'embeded_storage'; perhaps 'embedded_storage'"),
        ({"host": 5}, "host: .*quote"),
        ({"host": ["a", "b"]}, "host: must be text"),
        ({"mongoclient_kwargs": ["tls"]}, "mongoclient_kwargs: must be a mapping"),
        ({"mongoclient_kwargs": {"host": "h"}}, "mongoclient_kwargs: .*'host'"),
        ({"mongoclient_kwargs": {"port": 27018}}, "mongoclient_kwargs: .*'port'"),
        ({"name": "mongodb://h/lab"}, "name: .*put it into host"),
    ],
)
def test_invalid_connection_settings_are_an_error(settings, problem):
    with pytest.raises(ValidationError) as error:
        settings_of(**settings)
    assert re.search(problem, first_problem(error.value))


def test_options_override_defaults():
    for settings in (
        {"host": "mongodb://h/lab?serverSelectionTimeoutMS=50"},
        {"mongoclient_kwargs": {"serverselectiontimeoutms": 50, "tlsCAFile": None}},
    ):
        file = settings_of(**settings)
        client = MongoClient(file.uri, **file.client_options(connect=False))
        assert client.options.server_selection_timeout == 0.05


@pytest.mark.parametrize("name", ["", "my search", "a/b"])
def test_invalid_database_name_is_a_user_error(tmp_path, name):
    path = tmp_path / "my_launchpad.yaml"
    path.write_text(f"host: 127.0.0.1\nname: '{name}'\n")
    with pytest.raises(UserError, match=f"'{name}' must be one or more characters other than"):
        LaunchpadFile.read(path)
