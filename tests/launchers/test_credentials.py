"""Credentials are never shown, for all forms in which a launchpad file can contain them."""

from __future__ import annotations

import json
import os
import traceback
from functools import partial
from pathlib import Path
from unittest import mock
from urllib.parse import quote, quote_plus

import pytest
import yaml
from fireworks import LaunchPad
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gan_htvs.core.errors import UserError
from launchers.console import output as console
from launchers.launchpad.database import Databases
from launchers.launchpad.launchpad_file import PASSWORD_VARIABLE, LaunchpadFile
from launchers.monitor.doctor.database_checks import DatabaseSession
from launchers.monitor.findings import Check, run_checks

FIRST, LAST = "Zq7w", "Xk9v"
"""Start and end of each secret, so that also a part of it is detected."""

SECRETS = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=0, max_size=12).map(
    lambda inside: f"{FIRST}{inside}{LAST}"
)

CLOSED = "127.0.0.1:1"
QUICK = {"serverSelectionTimeoutMS": 1}
USER = {"host": "127.0.0.1", "port": 1, "name": "lab", "username": "ada"}


def options(**more):
    return {"mongoclient_kwargs": QUICK | more}


FORMS = {
    "password": lambda s: USER | {"password": s} | options(),
    "encoded in host": lambda s: (
        {"host": f"mongodb://ada:{quote_plus(s)}@{CLOSED}/lab"} | options()
    ),
    "encoded, uri_mode": lambda s: (
        {"host": f"mongodb://ada:{quote(s, safe='')}@{CLOSED}/lab", "uri_mode": True} | options()
    ),
    "as user name only": lambda s: {"host": f"mongodb://{quote(s)}:{quote(s)}x@{CLOSED}/?w=2=1"},
    "raw in host": lambda s: {"host": f"mongodb://ada:{s}@{CLOSED}/lab"} | options(),
    "raw without user": lambda s: {"host": f"mongodb://{s}@{CLOSED}/lab?x=1"} | options(),
    "no scheme": lambda s: {"host": f"ada:{s}@{CLOSED}/lab"} | options(),
    "other scheme": lambda s: {"host": f"https://ada:{s}@{CLOSED}/lab"} | options(),
    "a list": lambda s: {"host": [f"mongodb://ada:{s}@{CLOSED}"]},
    "bad port": lambda s: {"host": f"mongodb://ada:{quote_plus(s)}@127.0.0.1:99999/lab"},
    "in name": lambda s: {"host": "h", "name": f"mongodb://ada:{quote(s)}@{CLOSED}/lab"},
    "in name without scheme": lambda s: {"host": "h", "name": f"ada:{s}@{CLOSED}"},
    "in user name": lambda s: USER | {"username": f"mongodb://ada:{s}@{CLOSED}/lab"},
    "in authsource": lambda s: USER | {"authsource": f"mongodb://ada:{s}@{CLOSED}/lab"},
    "option host": lambda s: USER | options(host=f"mongodb://ada:{s}@{CLOSED}/lab"),
    "wrong mode": lambda s: {"host": "h", "uri_mode": s},
    "wrong port": lambda s: {"host": "h", "port": f"1 {s}"},
    "option password": lambda s: USER | options(password=s),
    "option in capitals": lambda s: USER | options(PASSWORD=s),
    "another option password": lambda s: USER | {"password": f"{s}1"} | options(password=s),
    "key file": lambda s: (
        USER | {"password": "pw"} | options(tls=True, tlsCertificateKeyFilePassword=s)
    ),
    "key file that is none": lambda s: (
        USER | options(tls=True, tlsCertificateKeyFile=__file__, tlsCertificateKeyFilePassword=s)
    ),
    "properties": lambda s: USER | options(authMechanismProperties=f"AWS_SESSION_TOKEN:{s}"),
    "properties that are none": lambda s: USER | options(authMechanismProperties=s),
    "properties mapping": lambda s: (
        USER | options(authMechanism="MONGODB-AWS", authMechanismProperties={s: 5})
    ),
    "token": lambda s: (
        {"host": "127.0.0.1", "port": 1}
        | options(authMechanism="MONGODB-AWS", authMechanismProperties={"AWS_SESSION_TOKEN": s})
    ),
    "old option": lambda s: USER | options(ssl_pem_passphrase=s),
    "old field": lambda s: USER | {"ssl_pem_passphrase": s},
    "old name": lambda s: USER | options(sslPassword=s),
    "unknown option": lambda s: USER | options(passphrase=s, clientSecret=s),
    "key file in host": lambda s: (
        {"host": f"mongodb://{CLOSED}/lab?tls=true&tlsCertificateKeyFilePassword={quote_plus(s)}"}
        | options()
    ),
    "properties in host": lambda s: (
        {"host": f"mongodb://{CLOSED}/lab?authMechanismProperties={quote_plus(s)}"} | options()
    ),
    "password in query": lambda s: (
        {"host": f"mongodb://{CLOSED}/lab?password={quote_plus(s)}"} | options()
    ),
    "raw in query": lambda s: {"host": f"mongodb://{CLOSED}/lab?authMechanismProperties={s}"},
    "key without space": lambda s: USER | {f"password:{s}": None},
    "a string for options": lambda s: USER | {"mongoclient_kwargs": f"password={s}"},
}
TEXTS = {
    "unquoted": lambda s: (
        f"host: 127.0.0.1\nport: 1\nusername: ada\npassword: {s}\n"
        "mongoclient_kwargs: {serverSelectionTimeoutMS: 1}\n"
    ),
    "as alias": lambda s: f"host: h\npassword: *{s}\n",
    "as tag": lambda s: f"host: h\npassword: !{s}\n",
    "twice": lambda s: f"host: h\npassword: '{quote(s)}'\npassword: x\n",
    "quote not closed": lambda s: f'host: h\npassword: "{s}\n',
    "the URI alone": lambda s: f"mongodb://ada:{s}@h/lab",
    "a list": lambda s: f"- password:{s}",
}


def all_output(path):
    """Return all representations and messages of a launchpad file."""
    shown = []
    try:
        read = LaunchpadFile.read(path)
        shown += [repr(read), str(read), read.model_dump_json(), read.address, read.uri]
        databases = Databases(read)
        shown += [repr(databases), str(databases), databases.job_store().name]
        databases.check(path)
    except UserError as error:
        shown += [str(error), "".join(traceback.format_exception(error))]
    else:
        pytest.fail("no server is running there")
    return shown


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("site") / "my_launchpad.yaml"
    path.touch(mode=0o600)
    return path


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


EXAMPLES = settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("form", FORMS)
@EXAMPLES
@given(secret=SECRETS)
@example(f"{FIRST}@:/?#[]%{LAST}")
@example(f"{FIRST}{LAST}")
@example(f"{FIRST},{LAST}:5")
@example(f"{FIRST}\\{LAST}")
def test_credential_is_never_shown(path, form, secret):
    for shown in all_output(written(path, yaml.safe_dump(FORMS[form](secret)))):
        assert FIRST not in shown
        assert LAST not in shown


@pytest.mark.parametrize("form", FORMS)
def test_doctor_shows_no_credential(path, form, capsys):
    secret = f"{FIRST}a@b:c/d{LAST}"
    written(path, yaml.safe_dump(FORMS[form](secret)))
    with DatabaseSession() as session:
        findings = run_checks([Check("database", partial(session.reach, path))])
    console.print_findings(findings)
    shown = str(findings) + capsys.readouterr().out
    assert "failure" in shown
    assert FIRST not in shown
    assert LAST not in shown


@pytest.mark.parametrize("form", TEXTS)
@EXAMPLES
@given(secret=SECRETS)
@example(f"{FIRST}: {LAST}")
@example(f"{FIRST}{LAST}")
def test_credential_in_invalid_yaml_is_never_shown(path, form, secret):
    for shown in all_output(written(path, TEXTS[form](secret))):
        assert FIRST not in shown
        assert LAST not in shown


@EXAMPLES
@given(secret=SECRETS)
def test_password_from_the_environment_is_never_shown(path, secret):
    for document in (USER | options(), {"host": f"mongodb://ada@{CLOSED}/lab"} | options()):
        with mock.patch.dict(os.environ, {PASSWORD_VARIABLE: secret}):
            shown = all_output(written(path, yaml.safe_dump(document)))
            read = LaunchpadFile.read(path)
        assert read.client_options()["password"] == secret
        assert FIRST not in str(shown)


@pytest.mark.parametrize(
    "form",
    ["password", "encoded in host", "encoded, uri_mode", "option password", "key file", "token"],
)
@EXAMPLES
@given(secret=SECRETS)
def test_databases_of_a_launchpad_have_the_same_settings_and_show_no_credential(form, secret):
    before = Databases(LaunchpadFile.model_validate(FORMS[form](secret)))
    launchpad = before.launchpad()
    assert FIRST not in repr(launchpad)
    copies = (launchpad, LaunchPad.from_dict(json.loads(json.dumps(launchpad.to_dict()))))
    for after in map(Databases.of, copies):
        assert FIRST not in repr(after)
        options_after = after.settings.client_options()
        assert (after.settings.uri, after.settings.name) == (before.settings.uri, "lab") or (
            form == "token"
        )
        assert options_after | before.settings.client_options() == options_after
        assert secret in str(options_after) or repr(secret)[1:-1] in str(options_after)
