"""What an examination finds, and how badly that is missed."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from gan_htvs.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LONGEST_SECONDS = 12.0
"""What takes longer, such as a file system that hangs, has failed."""


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    SKIPPED = "skipped"


class Need(Enum):
    """How badly something is missed: the state of a check that fails."""

    REQUIRED = State.FAILURE
    OPTIONAL = State.WARNING
    """Nothing asks for it now, and a part of the package is off without it."""
    CONVENIENT = State.SKIPPED
    """There is another way."""


class Finding(NamedTuple):
    """What an examination has to say, whoever needs it."""

    state: State
    found: str
    cure: str | None = None


def ok(found: str) -> Finding:
    """Tell what works."""
    return Finding(State.OK, found)


def warning(found: str, cure: str) -> Finding:
    """Tell what works badly, or will be noticed too late."""
    return Finding(State.WARNING, found, cure)


def failure(found: str, cure: str) -> Finding:
    """Tell what does not work; how bad that is, is for the :class:`Need` to say."""
    return Finding(State.FAILURE, found, cure)


def skipped(why: str) -> Finding:
    """Tell why there was nothing to examine."""
    return Finding(State.SKIPPED, why)


@dataclass(frozen=True)
class Check:
    """One line of the diagnosis."""

    name: str
    state: State
    found: str
    cure: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Give the line as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Examination:
    """Something to look at."""

    name: str
    examine: Callable[[], Finding]
    need: Need | None = Need.REQUIRED
    """None: it is not looked at, because the campaign does without."""
    longest_seconds: float = LONGEST_SECONDS

    def run(self) -> Check:
        """Look at it; a crash and a hang are failures like another.

        The thread of an examination that hangs is left behind and ends with the process.
        """
        if self.need is None:
            return Check(self.name, State.SKIPPED, "this campaign does without")
        findings: list[Finding] = []
        thread = threading.Thread(target=lambda: findings.append(self._attempt()), daemon=True)
        thread.start()
        thread.join(self.longest_seconds)
        if findings:
            return Check(self.name, *findings[0])
        return Check(
            self.name,
            State.FAILURE,
            f"no answer within {self.longest_seconds:g} s",
            "see what hangs: a file system, a queue or a server; then try again",
        )

    def _attempt(self) -> Finding:
        try:
            finding = self.examine()
        except UserError as error:  # which names the cure
            finding = Finding(State.FAILURE, str(error))
        except Exception as error:  # noqa: BLE001 - the other checks go on
            reason = (str(error).splitlines() or [""])[0]
            return failure(
                f"the check itself failed: {type(error).__name__}: {reason:.200}",
                "mend what the sentence names, or report it as a bug of gan-htvs",
            )
        if finding.state is State.FAILURE and self.need is not None:
            return finding._replace(state=self.need.value)
        return finding


def has_failed(checks: Iterable[Check], *, strict: bool = False) -> bool:
    """Tell whether anything failed; with ``strict``, a warning counts, too."""
    bad = {State.FAILURE, State.WARNING} if strict else {State.FAILURE}
    return any(check.state in bad for check in checks)
