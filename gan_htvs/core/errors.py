"""What goes wrong outside of this program: with what a user wrote, and with one calculation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gan_htvs.core.failure import CalculationFailure


class UserError(Exception):
    """Something outside the program is wrong and the user can cure it.

    The message is one sentence that names the file or field and the cure. The command line
    prints it without a traceback and exits with a non-zero code.
    """


class CalculationError(Exception):
    """The calculation of one structure left nothing that can be used.

    The message is the reason that is stored with the candidate, which has failed; its neighbors
    go on.

    Parameters
    ----------
    reason
        One sentence.
    failure
        What is known about it, where the job left a document.
    """

    def __init__(self, reason: str, failure: CalculationFailure | None = None) -> None:
        super().__init__(reason)
        self.failure = failure
