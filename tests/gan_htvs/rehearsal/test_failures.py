"""Every way to fail, before the real custodian with the handlers that atomate2 gives it."""

from __future__ import annotations

import json
import sys

import pytest
from atomate2.vasp.run import DEFAULT_HANDLERS
from custodian import Custodian
from custodian.custodian import (
    MaxCorrectionsPerJobError,
    NonRecoverableError,
    ReturnCodeError,
    ValidationError,
)
from custodian.vasp.handlers import FrozenJobErrorHandler
from custodian.vasp.jobs import VaspJob
from custodian.vasp.validators import VaspFilesValidator, VasprunXMLValidator
from emmet.core.tasks import TaskDoc
from pymatgen.io.vasp.outputs import Vasprun

from gan_htvs.errors import UserError
from gan_htvs.rehearsal.failures import (
    FAIL_VARIABLE,
    RUNS_FILE,
    SETTINGS_FILE,
    FailureMode,
    RehearsalSettings,
    count_run,
    read_settings,
)
from gan_htvs.rehearsal.labels import NOTICE

COMMAND = [sys.executable, "-m", "gan_htvs.rehearsal"]


@pytest.fixture
def custodian(in_process):
    def make(folder, job=in_process, *, max_errors=3, frozen_seconds=15):
        handlers = [
            FrozenJobErrorHandler(timeout=frozen_seconds) if type(h) is FrozenJobErrorHandler else h
            for h in (type(handler)() for handler in DEFAULT_HANDLERS)
        ]
        return Custodian(
            handlers,
            [job(COMMAND)],
            validators=[VasprunXMLValidator(), VaspFilesValidator()],
            max_errors=max_errors,
            polling_time_step=0.2,
            monitor_freq=1,
            directory=str(folder),
        )

    return make


def corrections(folder):
    log = json.loads((folder / "custodian.json").read_text())
    return [error for each in log[0]["corrections"] for error in each["errors"]]


def runs(folder):
    return int((folder / RUNS_FILE).read_text())


@pytest.fixture
def failing(mgo, written):
    def write(mode, **incar):
        folder = written(mgo, **({"NSW": 12} | incar))
        (folder / SETTINGS_FILE).write_text(json.dumps({"fail": mode}))
        return folder

    return write


class TestCustodian:
    def test_leaves_a_sound_calculation_alone(self, custodian, failing):
        folder = failing(None)
        custodian(folder).run()
        assert runs(folder) == 1
        assert corrections(folder) == []

    @pytest.mark.parametrize("mode", [FailureMode.ZBRENT, FailureMode.BRMIX])
    def test_corrects(self, custodian, failing, mode):
        folder = failing(mode)
        before = (folder / "INCAR").read_text()
        custodian(folder).run()
        assert runs(folder) == 2
        assert corrections(folder) == [mode]
        assert (folder / "INCAR").read_text() != before
        assert Vasprun(folder / "vasprun.xml").converged

    def test_gives_up_a_relaxation_that_never_converges(self, custodian, failing):
        folder = failing(FailureMode.UNCONVERGED)
        with pytest.raises(MaxCorrectionsPerJobError):
            custodian(folder).run()
        assert runs(folder) == 3
        assert set(corrections(folder)) == {"Unconverged"}
        vasprun = Vasprun(folder / "vasprun.xml")
        assert len(vasprun.ionic_steps) == 12
        assert vasprun.converged_electronic
        assert not vasprun.converged_ionic
        assert TaskDoc.from_directory(folder).state == "failed"

    def test_gives_up_electrons_that_never_converge(self, custodian, failing):
        folder = failing(FailureMode.ELECTRONIC, NELM=30)
        with pytest.raises((MaxCorrectionsPerJobError, NonRecoverableError)):
            custodian(folder).run()
        assert set(corrections(folder)) == {"Unconverged"}
        vasprun = Vasprun(folder / "vasprun.xml")
        assert not vasprun.converged_electronic
        assert vasprun.converged_ionic
        assert len(vasprun.ionic_steps[-1]["electronic_steps"]) == 30
        assert TaskDoc.from_directory(folder).state == "failed"

    @pytest.mark.parametrize("mode", [FailureMode.TRUNCATED, FailureMode.MISSING])
    def test_finds_vasprun_damaged(self, custodian, failing, mode):
        folder = failing(mode)
        with pytest.raises(ValidationError, match="VasprunXMLValidator"):
            custodian(folder).run()
        assert (folder / "vasprun.xml").exists() == (mode == FailureMode.TRUNCATED)

    def test_finds_a_killed_process(self, custodian, failing):
        folder = failing(FailureMode.KILLED)
        with pytest.raises((ValidationError, ReturnCodeError)):
            custodian(folder, VaspJob).run()
        assert "</modeling>" not in (folder / "vasprun.xml").read_text()

    def test_restarts_one_that_hangs(self, custodian, failing):
        folder = failing(FailureMode.HANG)
        custodian(folder, VaspJob).run()
        assert runs(folder) > 1
        assert set(corrections(folder)) == {"Frozen job"}
        assert Vasprun(folder / "vasprun.xml").converged
        assert NOTICE in (folder / "vasp.out").read_text().splitlines()[0]

    def test_ends_a_zombie(self, custodian, failing):
        folder = failing(FailureMode.ZOMBIE)
        with pytest.raises(MaxCorrectionsPerJobError):
            custodian(folder, VaspJob, max_errors=1).run()
        assert corrections(folder) == ["Frozen job"]
        assert Vasprun(folder / "vasprun.xml").converged


class TestSettings:
    def test_default_to_good_behaviour(self, tmp_path):
        assert read_settings(tmp_path) == RehearsalSettings()
        assert RehearsalSettings().failure_of(1) is None

    def test_environment_overrides_the_file(self, tmp_path, monkeypatch):
        (tmp_path / SETTINGS_FILE).write_text('{"fail": "hang", "seconds_per_step": 2}')
        monkeypatch.setenv(FAIL_VARIABLE, "killed")
        settings = read_settings(tmp_path)
        assert (settings.fail, settings.seconds_per_step) == (FailureMode.KILLED, 2)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"fail": "explode"}', f"{SETTINGS_FILE}: fail: .*'zbrent'"),
            ('{"fails": "hang"}', f"{SETTINGS_FILE}: fails: "),
            ("{", f"{SETTINGS_FILE}: is no JSON"),
        ],
    )
    def test_names_what_is_wrong(self, tmp_path, text, message):
        (tmp_path / SETTINGS_FILE).write_text(text)
        with pytest.raises(UserError, match=message):
            read_settings(tmp_path)

    def test_only_errors_that_custodian_corrects_go_away(self):
        for mode in FailureMode:
            failures = [RehearsalSettings(fail=mode).failure_of(n) for n in (1, 2, 9)]
            assert failures == [mode, *[None if mode.is_cured_by_retry else mode] * 2]
            twice = RehearsalSettings(fail=mode, fail_runs=2)
            assert [twice.failure_of(n) for n in (2, 3)] == [mode, None]

    def test_runs_are_counted(self, tmp_path):
        assert [count_run(tmp_path) for _ in range(3)] == [1, 2, 3]
