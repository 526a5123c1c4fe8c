from __future__ import annotations

import pytest
import yaml

from launchers.database import LaunchpadFile, open_databases
from launchers.doctor import database
from launchers.doctor.check import State
from launchers.doctor.database import DatabaseSession
from launchers.embedded import EmbeddedServer

OPENED = ("file", "server", "job_store", "indexes", "clock", "disk")


def findings(launchpad_file):
    with DatabaseSession(launchpad_file) as session:
        return {name: getattr(session, name)() for name in OPENED}


def test_an_embedded_database_is_served_for_the_checks_and_left_as_it_was(
    launchpad_file_of_own_server,
):
    launchpad_file = launchpad_file_of_own_server
    found = findings(launchpad_file)
    assert {name: f.state for name, f in found.items()} == dict.fromkeys(OPENED, State.OK)
    settings = LaunchpadFile.read(launchpad_file)
    assert EmbeddedServer(settings.embedded_storage, settings.port)._process() is None
    with open_databases(launchpad_file) as databases:
        db = databases.launchpad().db
        assert {name: db[name].count_documents({}) for name in db.list_collection_names()} == (
            dict.fromkeys(db.list_collection_names(), 0)
        )
        assert not [name for name in db.list_collection_names() if name.startswith("doctor")]


def test_indexes_that_are_lacking_are_named(launchpad_file):
    with open_databases(launchpad_file) as databases:
        databases.launchpad().initialise()
        db = databases.launchpad().db
        db["fireworks"].insert_one({"fw_id": 1, "state": "READY"})
        db["outputs"].insert_one({"uuid": "u"})
        found = findings(launchpad_file)["indexes"]
        assert found.state is State.WARNING
        assert found.found == "none on outputs.uuid"
        db["outputs"].create_index("uuid")
        assert findings(launchpad_file)["indexes"].state is State.OK


def test_a_launchpad_of_other_campaigns_is_told(launchpad_file):
    with open_databases(launchpad_file) as databases:
        databases.launchpad().db["campaigns"].insert_one({"name": "mg-mn-o"})
        with DatabaseSession(launchpad_file) as session:
            session.file()
            session.server()
            assert session.campaign("mg-mn-o").state is State.OK
            other = session.campaign("fe-o")
    assert other.state is State.WARNING
    assert "this database has mg-mn-o" in other.found


def test_a_file_that_is_missing_or_wrong_leaves_the_rest_unexamined(tmp_path):
    found = findings(tmp_path / "my_launchpad.yaml")
    assert found["file"].state is State.FAILURE
    assert "gan-htvs init" in found["file"].cure
    assert {found[name].state for name in OPENED[1:]} == {State.SKIPPED}


def test_passwords_are_never_shown(tmp_path, monkeypatch):
    path = tmp_path / "my_launchpad.yaml"
    remote = {"host": "mongo.example.org", "name": "search", "username": "ada"}
    path.write_text(yaml.safe_dump(remote | {"password": "xyzzy"}))
    path.chmod(0o600)
    told = DatabaseSession(path).file()
    assert told.state is State.OK
    assert "password in the file" in told.found
    monkeypatch.setenv("GAN_HTVS_MONGO_PASSWORD", "xyzzy")
    assert "GAN_HTVS_MONGO_PASSWORD" in DatabaseSession(path).file().found
    uri = {"host": "mongodb://ada:xyzzy@mongo.example.org/", "uri_mode": True, "name": "search"}
    path.write_text(yaml.safe_dump(uri))
    for finding in (told, DatabaseSession(path).file()):
        assert "xyzzy" not in str(finding)


@pytest.mark.parametrize(
    ("seconds", "state"),
    [
        (0.0, State.OK),
        (-0.9, State.OK),
        (1.1, State.WARNING),
        (-29.0, State.WARNING),
        (31.0, State.FAILURE),
        (-3600.0, State.FAILURE),
    ],
)
def test_clocks_that_differ_are_told_in_either_direction(seconds, state):
    finding = database.clock_skew(seconds)
    assert finding.state is state
    assert ("behind" in finding.found) == (seconds <= 0)


def test_a_wrong_clock_is_noticed(launchpad_file, monkeypatch):
    with DatabaseSession(launchpad_file) as session:
        session.file()
        session.server()
        now = database.time.time
        monkeypatch.setattr(database.time, "time", lambda: now() + 100)
        finding = session.clock()
    assert finding.state is State.FAILURE
    assert "behind" in finding.found


def test_a_distant_server_is_a_warning():
    assert database.round_trip(0.002).state is State.OK
    assert database.round_trip(0.2).state is State.WARNING


def test_fireworks_settings_that_lead_elsewhere_are_shown(tmp_path, launchpad_file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text("host: elsewhere\n")
    monkeypatch.setattr("fireworks.fw_config.CONFIG_FILE_DIR", str(tmp_path))
    monkeypatch.setattr("fireworks.fw_config.LAUNCHPAD_LOC", str(launchpad_file))
    assert database.fireworks_settings(launchpad_file).state is State.OK
    finding = database.fireworks_settings(elsewhere)
    assert finding.state is State.WARNING
    assert str(launchpad_file) in finding.found
    monkeypatch.setattr("fireworks.fw_config.CONFIG_FILE_DIR", str(tmp_path / "empty"))
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("fireworks.fw_config.LAUNCHPAD_LOC", str(elsewhere))
    finding = database.fireworks_settings(launchpad_file)
    assert finding.state is State.WARNING
    assert str(elsewhere) in finding.found


@pytest.mark.parametrize("name", ["CONFIG_FILE_DIR", "LAUNCHPAD_LOC"])
def test_fireworks_settings_that_name_nothing_are_shown(
    tmp_path, launchpad_file, monkeypatch, name
):
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("fireworks.fw_config.CONFIG_FILE_DIR", str(tmp_path / "empty"))
    monkeypatch.setattr(f"fireworks.fw_config.{name}", str(tmp_path / "nowhere"))
    finding = database.fireworks_settings(launchpad_file)
    assert finding.state is State.WARNING
    assert name in finding.cure


def test_the_fireworks_settings_in_effect_are_shown(tmp_path, launchpad_file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    named = tmp_path / "named.yaml"
    monkeypatch.setenv("FW_CONFIG_FILE", str(named))
    assert database.fireworks_settings(launchpad_file).state is State.WARNING  # it is not there
    named.write_text("PING_TIME_SECS: 300\n")
    finding = database.fireworks_settings(launchpad_file)
    assert finding.state is State.OK
    assert str(named) in finding.found
    in_effect = tmp_path / "FW_config.yaml"
    in_effect.write_text("PING_TIME_SECS: 300\n")
    finding = database.fireworks_settings(launchpad_file)
    assert finding.state is State.WARNING
    assert str(in_effect) in finding.found


def test_jobflows_own_settings_have_no_say(tmp_path, monkeypatch):
    path = tmp_path / "jobflow.yaml"
    monkeypatch.setenv("JOBFLOW_CONFIG_FILE", str(path))
    assert database.jobflow_settings().state is State.SKIPPED
    path.write_text("JOB_STORE: {}\n")
    assert str(path) in database.jobflow_settings().found
