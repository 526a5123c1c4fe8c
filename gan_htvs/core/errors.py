"""Errors that users can fix, and errors of single calculations."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gan_htvs.core.failure import CalculationFailure


class UserError(Exception):
    """Error outside the program that the user can fix.

    The message names the file or field and the fix in one sentence. The command line prints it
    without a traceback and exits with a non-zero code.
    """


class CalculationError(Exception):
    """The calculation of one structure has no usable result.

    The message is stored as the reason of the failed candidate; other candidates are not affected.

    Parameters
    ----------
    reason
        One sentence.
    failure
        Document of the failed job, if it stored one.
    """

    def __init__(self, reason: str, failure: CalculationFailure | None = None) -> None:
        super().__init__(reason)
        self.failure = failure
