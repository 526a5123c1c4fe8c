from __future__ import annotations

import json
import sys
import threading

import pytest
import typer

from gan_htvs.core.errors import UserError
from launchers.cli.common import conclude
from launchers.monitor.findings import (
    Check,
    Finding,
    Severity,
    failure,
    ok,
    run_checks,
    skipped,
    warning,
)


@pytest.mark.parametrize(
    ("severity", "expected"),
    [
        (Severity.FAILURE, Severity.FAILURE),
        (Severity.WARNING, Severity.WARNING),
        (Severity.SKIPPED, Severity.SKIPPED),
        (None, Severity.SKIPPED),
    ],
)
def test_check_sets_the_severity_of_a_failure(severity, expected):
    finding = Check("VASP", lambda: failure("gone", "install it"), severity).run()
    assert finding.severity is expected
    assert finding.where == "VASP"


@pytest.mark.parametrize("severity", [Severity.FAILURE, Severity.WARNING, Severity.SKIPPED])
def test_other_findings_keep_their_severity(severity):
    for finding in (ok("there"), warning("slow", "wait"), skipped("nothing to check")):
        assert Check("VASP", lambda f=finding: f, severity).run().severity is finding.severity


@pytest.mark.parametrize(
    ("what", "fix", "text"),
    [
        ("The disk is full.", "delete files", "The disk is full; delete files"),
        ("the disk is full", "delete files", "the disk is full; delete files"),
        ("The disk is full.", None, "The disk is full"),
    ],
)
def test_text_joins_description_and_fix(what, fix, text):
    assert warning(what, fix).text == text


def test_error_of_the_operating_system_is_a_finding_with_its_fix(tmp_path):
    check = Check("disk", lambda: ok((tmp_path / "missing").read_text()), Severity.WARNING)
    finding = check.run()
    assert finding.severity is Severity.WARNING
    assert str(tmp_path / "missing") in finding.what
    assert "raised" not in finding.what


def test_unneeded_check_does_not_run():
    event = threading.Event()
    Check("VASP", event.set, None).run()
    assert not event.is_set()


@pytest.mark.parametrize("severity", [Severity.FAILURE, Severity.WARNING])
def test_exception_of_a_check_is_a_failure(severity):
    finding = Check("VASP", lambda: 1 / 0, severity).run()
    assert finding.severity is Severity.FAILURE
    assert "ZeroDivisionError: division by zero" in finding.what
    assert finding.fix


def test_user_error_of_a_check_is_a_failure_with_its_message():
    def find():
        raise UserError("a: wrong; correct it.")

    expected = Finding(Severity.FAILURE, "a: wrong; correct it.", "file")
    assert Check("file", find).run() == expected
    assert Check("file", find, Severity.WARNING).run().severity is Severity.WARNING


def test_timed_out_check_is_a_failure_and_others_run():
    never = threading.Event()
    hung, other = run_checks(
        [Check("disk", never.wait, seconds=0.05), Check("GPU", lambda: ok(""))]
    )
    assert hung.severity is Severity.FAILURE
    assert hung.fix
    assert other.severity is Severity.OK


def test_output_of_checks_does_not_reach_stdout(capsys):
    def find():
        print("chatter")  # noqa: T201
        return ok("")

    run_checks([Check("library", find)])
    assert capsys.readouterr().out == ""
    assert sys.stdout is not sys.stderr


def test_exit_code_depends_on_most_severe_finding(capsys):
    def code(*severities, strict):
        try:
            conclude(
                [Finding(severity, "") for severity in severities], as_json=False, strict=strict
            )
        except typer.Exit as stop:
            return stop.exit_code
        return 0

    assert code(Severity.OK, Severity.SKIPPED, strict=True) == 0
    assert code(Severity.OK, Severity.WARNING, strict=False) == 0
    assert code(Severity.OK, Severity.WARNING, strict=True) == 1
    assert code(Severity.FAILURE, Severity.OK, strict=False) == 1


def test_findings_are_printed_as_json(capsys):
    conclude([Finding(Severity.OK, "there", "GPU")], as_json=True, strict=True)
    assert json.loads(capsys.readouterr().out) == [
        {"severity": "ok", "what": "there", "where": "GPU", "fix": None, "repair": None}
    ]
