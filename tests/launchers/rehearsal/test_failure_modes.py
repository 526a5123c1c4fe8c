"""Every failure mode with the real custodian and atomate2's default handlers."""

from __future__ import annotations

import json
import shlex

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

from gan_htvs.core.errors import UserError
from launchers.rehearsal.environment import COMMAND
from launchers.rehearsal.failure_modes import (
    FAIL_VARIABLE,
    RUNS_FILE,
    FailureMode,
    drawn_failure,
    failure_of_run,
    parse_shares,
)
from launchers.rehearsal.labels import NOTICE


@pytest.fixture
def custodian(in_process):
    def make(folder, job=in_process, *, max_errors=3, frozen_seconds=15):
        handlers = [
            FrozenJobErrorHandler(timeout=frozen_seconds) if type(h) is FrozenJobErrorHandler else h
            for h in (type(handler)() for handler in DEFAULT_HANDLERS)
        ]
        return Custodian(
            handlers,
            [job(shlex.split(COMMAND))],
            validators=[VasprunXMLValidator(), VaspFilesValidator()],
            max_errors=max_errors,
            polling_time_step=0.2,
            monitor_freq=1,
            directory=str(folder),
        )

    return make


def corrections(folder):
    log = json.loads((folder / "custodian.json").read_text())
    return [error for correction in log[0]["corrections"] for error in correction["errors"]]


def runs(folder):
    return int((folder / RUNS_FILE).read_text())


@pytest.fixture
def failing(mgo, written, monkeypatch):
    def write(mode, **incar):
        monkeypatch.setenv(FAIL_VARIABLE, mode or "")
        return written(mgo, **({"NSW": 12} | incar))

    return write


class TestCustodian:
    def test_changes_nothing_without_a_failure(self, custodian, failing):
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

    def test_gives_up_on_unconverged_ions(self, custodian, failing):
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

    def test_gives_up_on_unconverged_electrons(self, custodian, failing):
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
    def test_rejects_damaged_vasprun(self, custodian, failing, mode):
        folder = failing(mode)
        with pytest.raises(ValidationError, match="VasprunXMLValidator"):
            custodian(folder).run()
        assert (folder / "vasprun.xml").exists() == (mode == FailureMode.TRUNCATED)

    def test_detects_a_killed_process(self, custodian, failing):
        folder = failing(FailureMode.KILLED)
        with pytest.raises((ValidationError, ReturnCodeError)):
            custodian(folder, VaspJob).run()
        assert "</modeling>" not in (folder / "vasprun.xml").read_text()

    def test_restarts_a_frozen_calculation(self, custodian, failing):
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


class TestShares:
    @pytest.mark.parametrize(
        ("text", "shares"),
        [
            ("", {}),
            ("killed", {FailureMode.KILLED: 1}),
            ("killed=0.1,zbrent=0.2", {FailureMode.KILLED: 0.1, FailureMode.ZBRENT: 0.2}),
            (" hang=1e-3 brmix=0,", {FailureMode.HANG: 1e-3, FailureMode.BRMIX: 0}),
        ],
    )
    def test_are_parsed(self, text, shares):
        assert parse_shares(text) == shares

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("explode=0.1", "--fail: 'explode=0.1'.*zbrent"),
            ("killed=often", "'killed=often'"),
            ("killed=2", "'killed=2'"),
            ("killed=-0.1", "'killed=-0.1'"),
            ("killed=nan", "'killed=nan'"),
            ("killed=0.8,hang=0.8", "'killed=0.8,hang=0.8'"),
        ],
    )
    def test_must_be_valid(self, text, message):
        with pytest.raises(UserError, match=message):
            parse_shares(text, source="--fail")

    def test_are_frequencies_over_many_folders(self, tmp_path):
        shares = parse_shares("killed=0.1,zbrent=0.3")
        drawn = [drawn_failure(tmp_path / str(n), shares) for n in range(2000)]
        for mode, share in shares.items():
            assert drawn.count(mode) / len(drawn) == pytest.approx(share, abs=0.04)
        assert drawn == [drawn_failure(tmp_path / str(n), shares) for n in range(2000)]


@pytest.mark.parametrize("mode", FailureMode)
def test_only_corrected_modes_are_limited_to_the_first_run(tmp_path, monkeypatch, mode):
    monkeypatch.setenv(FAIL_VARIABLE, mode)
    failures = [failure_of_run(tmp_path) for _ in range(3)]
    corrected = mode in {FailureMode.ZBRENT, FailureMode.BRMIX, FailureMode.HANG}
    assert failures == [mode, *[None if corrected else mode] * 2]
    assert runs(tmp_path) == 3
