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
    """Return the open databases of a session."""
    with DatabaseSession() as session:
        assert session.reach(launchpad_file).severity is Severity.OK
        yield session.databases


def test_checks_do_not_change_an_embedded_database(
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
    assert EmbeddedServer(settings.embedded_storage, settings.port).process is None
    with open_databases(launchpad_file) as databases:
        db = databases.launchpad().db
        assert {name: db[name].count_documents({}) for name in db.list_collection_names()} == (
            dict.fromkeys(db.list_collection_names(), 0)
        )
        assert not [name for name in db.list_collection_names() if name.startswith("doctor")]


def test_missing_indexes_are_a_warning(launchpad_file):
    with open_databases(launchpad_file) as databases:
        databases.launchpad().initialize()
        db = databases.launchpad().db
        db["fireworks"].insert_one({"fw_id": 1, "state": "READY"})
        db["outputs"].insert_one({"uuid": "u"})
        finding = database.indexes(databases, launchpad_file)
        assert finding.severity is Severity.WARNING
        assert "outputs.uuid" in finding.what
        db["outputs"].create_index("uuid")
        assert database.indexes(databases, launchpad_file).severity is Severity.OK


def test_unregistered_campaign_is_a_warning(launchpad_file):
    with open_databases(launchpad_file) as databases:
        databases.launchpad().db["campaigns"].insert_one({"name": "mg-mn-o"})
        assert database.campaign(databases, "mg-mn-o").severity is Severity.OK
        other = database.campaign(databases, "fe-o")
    assert other.severity is Severity.WARNING
    assert "mg-mn-o" in other.what


def test_database_finding_describes_file_and_server(launchpad_file):
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
    ("seconds", "severity"),
    [
        (0.0, Severity.OK),
        (-0.9, Severity.OK),
        (1.1, Severity.WARNING),
        (-29.0, Severity.WARNING),
        (31.0, Severity.FAILURE),
        (-3600.0, Severity.FAILURE),
    ],
)
def test_severity_of_clock_skew_in_both_directions(seconds, severity):
    finding = database.clock_skew(seconds)
    assert finding.severity is severity
    assert ("behind" in finding.what) == (seconds <= 0)


def test_clock_of_the_server_is_compared(launchpad_file, monkeypatch):
    with opened(launchpad_file) as databases:
        now = database.time.time
        monkeypatch.setattr(database.time, "time", lambda: now() + 100)
        finding = database.clock(databases)
    assert finding.severity is Severity.FAILURE
    assert "behind" in finding.what


def test_slow_server_is_a_warning(launchpad_file, monkeypatch):
    monkeypatch.setattr(database, "SLOW_SECONDS", 0.0)
    with DatabaseSession() as session:
        finding = session.reach(launchpad_file)
    assert finding.severity is Severity.WARNING
    assert finding.fix


def test_other_launchpad_file_of_fireworks_is_a_warning(tmp_path, launchpad_file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other.yaml"
    other.write_text("host: other\n")
    monkeypatch.setattr("fireworks.fw_config.CONFIG_FILE_DIR", str(tmp_path))
    monkeypatch.setattr("fireworks.fw_config.LAUNCHPAD_LOC", str(launchpad_file))
    assert database.fireworks_settings(launchpad_file).severity is Severity.OK
    finding = database.fireworks_settings(other)
    assert finding.severity is Severity.WARNING
    assert str(launchpad_file) in finding.what
    monkeypatch.setattr("fireworks.fw_config.CONFIG_FILE_DIR", str(tmp_path / "empty"))
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("fireworks.fw_config.LAUNCHPAD_LOC", str(other))
    finding = database.fireworks_settings(launchpad_file)
    assert finding.severity is Severity.WARNING
    assert str(other) in finding.what


@pytest.mark.parametrize("name", ["CONFIG_FILE_DIR", "LAUNCHPAD_LOC"])
def test_missing_paths_of_fireworks_settings_are_a_warning(
    tmp_path, launchpad_file, monkeypatch, name
):
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("fireworks.fw_config.CONFIG_FILE_DIR", str(tmp_path / "empty"))
    monkeypatch.setattr(f"fireworks.fw_config.{name}", str(tmp_path / "nowhere"))
    finding = database.fireworks_settings(launchpad_file)
    assert finding.severity is Severity.WARNING
    assert name in finding.fix


def test_fireworks_settings_file_in_effect_is_reported(tmp_path, launchpad_file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    named = tmp_path / "named.yaml"
    monkeypatch.setenv("FW_CONFIG_FILE", str(named))
    finding = database.fireworks_settings(launchpad_file)
    assert finding.severity is Severity.WARNING  # the file is missing
    named.write_text("PING_TIME_SECS: 300\n")
    finding = database.fireworks_settings(launchpad_file)
    assert finding.severity is Severity.OK
    assert str(named) in finding.what
    in_effect = tmp_path / "FW_config.yaml"
    in_effect.write_text("PING_TIME_SECS: 300\n")
    finding = database.fireworks_settings(launchpad_file)
    assert finding.severity is Severity.WARNING
    assert str(in_effect) in finding.what


def test_jobflow_settings_are_reported_as_unused(tmp_path, monkeypatch):
    path = tmp_path / "jobflow.yaml"
    monkeypatch.setenv("JOBFLOW_CONFIG_FILE", str(path))
    assert database.jobflow_settings().severity is Severity.SKIPPED
    path.write_text("JOB_STORE: {}\n")
    assert str(path) in database.jobflow_settings().what
