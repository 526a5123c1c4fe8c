from __future__ import annotations

from contextlib import contextmanager
from functools import partial

import pytest
import yaml

from launchers.launchpad.database import LaunchpadFile, open_databases
from launchers.launchpad.embedded import EmbeddedServer
from launchers.monitor.doctor import database_checks as database
from launchers.monitor.doctor.database_checks import DatabaseSession
from launchers.monitor.findings import Check, Severity


@contextmanager
def opened(launchpad_file):
    """Open a session in which the database can be reached."""
    with DatabaseSession() as session:
        assert session.reach(launchpad_file).severity is Severity.OK
        yield session.databases


def test_an_embedded_database_is_served_for_the_checks_and_left_as_it_was(
    launchpad_file_of_own_server,
):
    launchpad_file = launchpad_file_of_own_server
    with opened(launchpad_file) as databases:
        for finding in (
            database.job_store(databases),
            database.indexes(databases, launchpad_file),
            database.clock(databases),
        ):
            assert finding.severity is Severity.OK
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
        databases.launchpad().initialize()
        db = databases.launchpad().db
        db["fireworks"].insert_one({"fw_id": 1, "state": "READY"})
        db["outputs"].insert_one({"uuid": "u"})
        finding = database.indexes(databases, launchpad_file)
        assert finding.severity is Severity.WARNING
        assert finding.what == "none on outputs.uuid"
        db["outputs"].create_index("uuid")
        assert database.indexes(databases, launchpad_file).severity is Severity.OK


def test_a_launchpad_of_other_campaigns_is_told(launchpad_file):
    with open_databases(launchpad_file) as databases:
        databases.launchpad().db["campaigns"].insert_one({"name": "mg-mn-o"})
        assert database.campaign(databases, "mg-mn-o").severity is Severity.OK
        other = database.campaign(databases, "fe-o")
    assert other.severity is Severity.WARNING
    assert "this database has mg-mn-o" in other.what


def test_the_launchpad_file_and_the_database_are_described(launchpad_file):
    with DatabaseSession() as session:
        finding = session.reach(launchpad_file)
    assert finding.severity is Severity.OK
    for part in (str(launchpad_file), LaunchpadFile.read(launchpad_file).address, "writable"):
        assert part in finding.what


@pytest.mark.parametrize("source", ["file", "variable", "uri"])
def test_passwords_are_never_shown(launchpad_file, monkeypatch, source):
    settings = yaml.safe_load(launchpad_file.read_text())
    if source == "uri":
        address = f"ada:xyzzy@{settings.pop('host')}:{settings.pop('port')}"
        settings |= {"host": f"mongodb://{address}/", "uri_mode": True}
    else:
        settings |= {"username": "ada", "password": "xyzzy"}
    launchpad_file.write_text(yaml.safe_dump(settings))
    launchpad_file.chmod(0o600)
    expected = "password from the file"
    if source == "variable":
        monkeypatch.setenv("GAN_HTVS_MONGO_PASSWORD", "xyzzy")
        expected = "password from GAN_HTVS_MONGO_PASSWORD"
    finding = Check("database", partial(DatabaseSession().reach, launchpad_file)).run()
    assert "xyzzy" not in str(finding)
    assert finding.severity is Severity.FAILURE or expected in finding.what


@pytest.mark.parametrize(
    ("seconds", "state"),
    [
        (0.0, Severity.OK),
        (-0.9, Severity.OK),
        (1.1, Severity.WARNING),
        (-29.0, Severity.WARNING),
        (31.0, Severity.FAILURE),
        (-3600.0, Severity.FAILURE),
    ],
)
def test_clocks_that_differ_are_told_in_either_direction(seconds, state):
    finding = database.clock_skew(seconds)
    assert finding.severity is state
    assert ("behind" in finding.what) == (seconds <= 0)


def test_a_wrong_clock_is_noticed(launchpad_file, monkeypatch):
    with opened(launchpad_file) as databases:
        now = database.time.time
        monkeypatch.setattr(database.time, "time", lambda: now() + 100)
        finding = database.clock(databases)
    assert finding.severity is Severity.FAILURE
    assert "behind" in finding.what


def test_a_distant_server_is_a_warning(launchpad_file, monkeypatch):
    monkeypatch.setattr(database, "SLOW_SECONDS", 0.0)
    with DatabaseSession() as session:
        finding = session.reach(launchpad_file)
    assert finding.severity is Severity.WARNING
    assert finding.fix


def test_fireworks_settings_that_lead_elsewhere_are_shown(tmp_path, launchpad_file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text("host: elsewhere\n")
    monkeypatch.setattr("fireworks.fw_config.CONFIG_FILE_DIR", str(tmp_path))
    monkeypatch.setattr("fireworks.fw_config.LAUNCHPAD_LOC", str(launchpad_file))
    assert database.fireworks_settings(launchpad_file).severity is Severity.OK
    finding = database.fireworks_settings(elsewhere)
    assert finding.severity is Severity.WARNING
    assert str(launchpad_file) in finding.what
    monkeypatch.setattr("fireworks.fw_config.CONFIG_FILE_DIR", str(tmp_path / "empty"))
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("fireworks.fw_config.LAUNCHPAD_LOC", str(elsewhere))
    finding = database.fireworks_settings(launchpad_file)
    assert finding.severity is Severity.WARNING
    assert str(elsewhere) in finding.what


@pytest.mark.parametrize("name", ["CONFIG_FILE_DIR", "LAUNCHPAD_LOC"])
def test_fireworks_settings_that_name_nothing_are_shown(
    tmp_path, launchpad_file, monkeypatch, name
):
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("fireworks.fw_config.CONFIG_FILE_DIR", str(tmp_path / "empty"))
    monkeypatch.setattr(f"fireworks.fw_config.{name}", str(tmp_path / "nowhere"))
    finding = database.fireworks_settings(launchpad_file)
    assert finding.severity is Severity.WARNING
    assert name in finding.fix


def test_the_fireworks_settings_in_effect_are_shown(tmp_path, launchpad_file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    named = tmp_path / "named.yaml"
    monkeypatch.setenv("FW_CONFIG_FILE", str(named))
    assert (
        database.fireworks_settings(launchpad_file).severity is Severity.WARNING
    )  # it is not there
    named.write_text("PING_TIME_SECS: 300\n")
    finding = database.fireworks_settings(launchpad_file)
    assert finding.severity is Severity.OK
    assert str(named) in finding.what
    in_effect = tmp_path / "FW_config.yaml"
    in_effect.write_text("PING_TIME_SECS: 300\n")
    finding = database.fireworks_settings(launchpad_file)
    assert finding.severity is Severity.WARNING
    assert str(in_effect) in finding.what


def test_jobflows_own_settings_have_no_say(tmp_path, monkeypatch):
    path = tmp_path / "jobflow.yaml"
    monkeypatch.setenv("JOBFLOW_CONFIG_FILE", str(path))
    assert database.jobflow_settings().severity is Severity.SKIPPED
    path.write_text("JOB_STORE: {}\n")
    assert str(path) in database.jobflow_settings().what
