"""Findings of checks: how severe, what was found, where, and how to fix it."""

from __future__ import annotations

import sys
import threading
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from gan_htvs.core.errors import UserError
from gan_htvs.core.text import one_line
from launchers.console import output as console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SECONDS = 12.0
"""A check that takes longer has failed: a file system may hang."""

LONG_TIMEOUT_SECONDS = 90.0
"""For checks that limit their own time, or that import libraries from a slow disk."""


class Severity(StrEnum):
    """How severe a finding is."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    severity: Severity
    what: str
    where: str = ""
    """Name of the check, set by :func:`run_checks`."""
    fix: str | None = None
    """What to do; None if nothing is wrong, or if the sentence in ``what`` says it."""


def ok(what: str) -> Finding:
    """Return a finding about what works."""
    return Finding(Severity.OK, what)


def warning(what: str, fix: str) -> Finding:
    """Return a finding about what works badly, or will fail later."""
    return Finding(Severity.WARNING, what, fix=fix)


def failure(what: str, fix: str | None) -> Finding:
    """Return a finding about what does not work."""
    return Finding(Severity.FAILURE, what, fix=fix)


def skipped(why: str) -> Finding:
    """Return a finding about what could not be, or need not be checked."""
    return Finding(Severity.SKIPPED, why)


class Check(NamedTuple):
    """A check that has not run yet."""

    where: str
    find: Callable[[], Finding]
    severity: Severity | None = Severity.FAILURE
    """How severe a failure is; None: the check is skipped, since the campaign needs none of it."""
    seconds: float = SECONDS

    def run(self) -> Finding:
        """Run the check; a crash and a hang are failures.

        The thread of a check that hangs is abandoned and ends with the process.
        """
        if self.severity is None:
            return Finding(Severity.SKIPPED, "this campaign does without", self.where)
        findings: list[Finding] = []
        thread = threading.Thread(target=lambda: findings.append(self._try()), daemon=True)
        thread.start()
        thread.join(self.seconds)
        timeout = failure(
            f"no answer within {self.seconds:g} s",
            "find out what hangs (a file system, a queue, a server), then try again",
        )
        return replace((findings or [timeout])[0], where=self.where)

    def _try(self) -> Finding:
        try:
            finding = self.find()
        except UserError as error:  # says what to do
            finding = failure(str(error), None)
        except Exception as error:  # noqa: BLE001 - the other checks go on
            return failure(
                f"the check itself failed: {type(error).__name__}: {one_line(error)}",
                "correct what the sentence names, or report it as a bug of gan-htvs",
            )
        if finding.severity is Severity.FAILURE and self.severity is not None:
            return replace(finding, severity=self.severity)
        return finding


def run_checks(checks: Iterable[Check]) -> list[Finding]:
    """Run checks one after another and name the current one on a terminal.

    What libraries print goes to stderr, since stdout may be read as JSON.
    """
    with (
        console.err.status("checking") as status,
        redirect_stdout(sys.stderr),
        warnings.catch_warnings(action="ignore"),
    ):
        findings = []
        for check in checks:
            status.update(f"checking: {check.where}")
            findings.append(check.run())
    return findings
