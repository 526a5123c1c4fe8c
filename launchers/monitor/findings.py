"""Findings of checks: severity, problem, place and fix."""

from __future__ import annotations

import sys
import threading
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from gan_htvs.core.errors import UserError
from gan_htvs.core.files import explain_os_error
from gan_htvs.core.text import one_line
from launchers.console import output as console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TIMEOUT_SECONDS = 12.0
"""Time limit of a check; a file system may hang."""

LONG_TIMEOUT_SECONDS = 90.0
"""Time limit of checks that have a timeout of their own or import libraries."""


class Severity(StrEnum):
    """Severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """The result of a check."""

    severity: Severity
    what: str
    """Description."""
    where: str = ""
    """Name of the check, set by :func:`run_checks`."""
    fix: str | None = None
    """What the user can do; None if nothing is wrong, or if ``what`` includes it."""
    repair: str | None = None
    """What a command has done about the problem."""

    @property
    def text(self) -> str:
        """Description and fix in one line, without a period at its end."""
        what = self.what.removesuffix(".")
        return f"{what}; {self.fix}" if self.fix else what


def ok(what: str) -> Finding:
    """Return a finding without a problem."""
    return Finding(Severity.OK, what)


def warning(what: str, fix: str | None) -> Finding:
    """Return a finding about a problem that does not prevent work now."""
    return Finding(Severity.WARNING, what, fix=fix)


def failure(what: str, fix: str | None) -> Finding:
    """Return a finding about a problem that prevents work."""
    return Finding(Severity.FAILURE, what, fix=fix)


def skipped(reason: str) -> Finding:
    """Return the finding of a check that was not done, with the reason."""
    return Finding(Severity.SKIPPED, reason)


class Check(NamedTuple):
    """A check that has not run yet."""

    where: str
    find: Callable[[], Finding]
    severity: Severity | None = Severity.FAILURE
    """Severity of a failure; None: the check is skipped because the campaign does not need it."""
    seconds: float = TIMEOUT_SECONDS

    def run(self) -> Finding:
        """Run the check; an exception or a timeout is a failure.

        The thread of a check that timed out keeps running until the process ends.
        """
        if self.severity is None:
            return Finding(Severity.SKIPPED, "not needed by this campaign", self.where)
        findings: list[Finding] = []
        thread = threading.Thread(target=lambda: findings.append(self._try()), daemon=True)
        thread.start()
        thread.join(self.seconds)
        timeout = failure(
            f"no result within {self.seconds:g} s",
            "check whether a file system, a queue or a server hangs, then try again",
        )
        return replace((findings or [timeout])[0], where=self.where)

    def _try(self) -> Finding:
        try:
            finding = self.find()
        except UserError as error:  # its message includes the fix
            finding = failure(str(error), None)
        except Exception as error:  # noqa: BLE001 - the other checks still run
            reason = explain_os_error(error) if isinstance(error, OSError) else None
            if reason is None:
                return failure(
                    f"the check raised {type(error).__name__}: {one_line(error)}",
                    "correct the cause, or report a bug of gan-htvs",
                )
            finding = failure(reason, None)
        if finding.severity is Severity.FAILURE and self.severity is not None:
            return replace(finding, severity=self.severity)
        return finding


def run_checks(checks: Iterable[Check]) -> list[Finding]:
    """Run checks one after another; on a terminal, show the name of the current one.

    Output of libraries goes to stderr because stdout may be JSON.
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
