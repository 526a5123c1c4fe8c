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


def test_the_file_of_the_repository_is_the_one_that_new_campaigns_start_from():
    shipped = (resources.files("launchers.cli") / "templates" / "my_launchpad.yaml").read_text()
    assert (ROOT / "my_launchpad.yaml").read_text() == shipped


@pytest.fixture
def beside_a_server(tmp_path, free_port):
    """The file of the repository with another port, and its database running."""
    path = tmp_path / "my_launchpad.yaml"
    port = free_port()
    path.write_text((ROOT / "my_launchpad.yaml").read_text().replace("27027", str(port)))
    settings = LaunchpadFile.read(path)
    assert settings.port == port
    assert settings.embedded_storage == tmp_path / "gan_htvs_data" / "database"
    with EmbeddedServer(settings.embedded_storage, port).serving():
        yield path


def test_fireworks_own_lpad_reads_the_file_of_the_repository(beside_a_server):
    launchpad = LaunchPad.from_file(str(beside_a_server))
    launchpad.reset("", require_password=False)
    launchpad.add_wf(Firework(ScriptTask.from_str("true"), name="asked for"))
    answer = subprocess.run(
        [LPAD, "-l", beside_a_server, "get_wflows"],
        cwd=beside_a_server.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    workflow = json.loads(answer[answer.index("{") :])
    assert workflow["name"] == "asked for--1"
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
def test_an_address_is_complete_and_holds_no_credentials(tmp_path, text, address):
    path = tmp_path / "my_launchpad.yaml"
    path.write_text(text)
    assert LaunchpadFile.read(path).address == address


def of(**settings):
    return LaunchpadFile.model_validate({"host": "db.lab.org", **settings})


@pytest.mark.parametrize("blank", [None, ""])
def test_nulls_and_blanks_mean_the_defaults_of_fireworks(blank):
    keys = ("port", "username", "password", "logdir", "strm_lvl", "authsource", "uri_mode")
    keys += ("user_indices", "wf_user_indices", "mongoclient_kwargs", "embedded_storage")
    assert of(**dict.fromkeys(keys, blank)) == of()
    assert of(name=None).name == LaunchPad(mongoclient_kwargs={"connect": False}).name
    assert LaunchpadFile.model_validate({"host": blank}).host == "localhost"


@pytest.mark.parametrize("uri_mode", [False, True])
def test_a_connection_string_names_the_database_unless_the_file_does(uri_mode):
    uri = "mongodb://db.lab.org/lab?retryWrites=false"
    assert of(host=uri, uri_mode=uri_mode).name == "lab"
    assert of(host=uri, uri_mode=uri_mode, name="lab").name == "lab"
    at_admin = of(host="mongodb://ada:pw@db.lab.org/admin", uri_mode=uri_mode, name="lab")
    assert at_admin.name == "lab"
    for contradiction in (
        {"host": uri, "name": "other"},
        {"host": "mongodb://db.lab.org", "name": None},
        {"host": "mongodb://db.lab.org/admin"},
        {"host": "mongodb+srv://db.lab.org/?w=1"},
    ):
        with pytest.raises(ValueError, match="name: "):
            of(uri_mode=uri_mode, **contradiction)


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
def test_users_are_looked_up_where_fireworks_would(settings, authsource):
    found = of(**{"password": "pw"} | settings)
    client = MongoClient(found.uri, **found.client_options(connect=False))
    credentials = client.options.pool_options._credentials
    assert (credentials.source, credentials.username, credentials.password) == (
        authsource,
        "ada",
        "pw",
    )


def test_credentials_that_contradict_each_other_are_refused():
    uri = "mongodb://ada:pw@h/lab"
    assert of(host=uri, username="ada", password="pw").username == "ada"
    for other in (
        {"username": "bob"},
        {"password": "other"},
        {"mongoclient_kwargs": {"PASSWORD": "x"}},
    ):
        with pytest.raises(ValueError, match="keep one"):
            of(host=uri, **other)


@pytest.mark.parametrize("value", ["20201231", "1.5", "true", "2024-01-01", "0123"])
@pytest.mark.parametrize("key", ["password", "username", "name", "authsource"])
def test_a_number_for_a_text_is_to_be_quoted(tmp_path, key, value):
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
def test_words_that_only_yaml_1_1_reads_as_something_else_stay_text(tmp_path, word):
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
def test_old_names_of_tls_options_are_refused_with_the_new_one(key, value, modern):
    for settings in (
        {key: value},
        {"mongoclient_kwargs": {key: value}},
        {"host": f"mongodb://h/lab?{key}={value}"},
    ):
        with pytest.raises(ValueError, match=modern) as error:
            of(**settings)
        assert "hidden" not in str(error.value)
    assert of(**{key: None}) == of(**{key: ""}) == of()


@pytest.mark.parametrize("key", ["tls", "ssl", "tlsCAFile", "replicaSet", "authMechanism"])
def test_options_of_pymongo_beside_fireworks_fields_are_refused(key):
    with pytest.raises(ValueError, match="under mongoclient_kwargs"):
        of(**{key: "x"})
    with pytest.raises(ValueError, match=r"ssl: .*under mongoclient_kwargs"):
        of(ssl=True)
    assert of(ssl=False) == of()
    with pytest.raises(ValueError, match="perhaps 'authsource'"):
        of(authSource="admin")


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
        ({"host": 5}, "host: .*quote"),
        ({"host": ["a", "b"]}, "host: must be text"),
        ({"mongoclient_kwargs": ["tls"]}, "mongoclient_kwargs: must be a mapping"),
        ({"mongoclient_kwargs": {"host": "h"}}, "mongoclient_kwargs: .*'host'"),
        ({"mongoclient_kwargs": {"port": 27018}}, "mongoclient_kwargs: .*'port'"),
        ({"name": "mongodb://h/lab"}, "name: .*put it into host"),
    ],
)
def test_what_no_connection_can_be_made_of_is_refused(settings, problem):
    with pytest.raises(ValidationError) as error:
        of(**settings)
    assert re.search(problem, first_problem(error.value))


def test_options_of_a_connection_string_and_of_the_file_hold_before_ours():
    for settings in (
        {"host": "mongodb://h/lab?serverSelectionTimeoutMS=50"},
        {"mongoclient_kwargs": {"serverselectiontimeoutms": 50, "tlsCAFile": None}},
    ):
        found = of(**settings)
        client = MongoClient(found.uri, **found.client_options(connect=False))
        assert client.options.server_selection_timeout == 0.05


@pytest.mark.parametrize("name", ["", "my search", "a/b"])
def test_a_name_that_no_database_can_have_is_told_in_words(tmp_path, name):
    path = tmp_path / "my_launchpad.yaml"
    path.write_text(f"host: 127.0.0.1\nname: '{name}'\n")
    with pytest.raises(UserError, match=f"'{name}' must be one or more characters other than"):
        LaunchpadFile.read(path)
