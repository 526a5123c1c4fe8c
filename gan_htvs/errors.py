"""What goes wrong outside of this program: with what a user wrote, and with one calculation."""

from __future__ import annotations


class UserError(Exception):
    """Something outside the program is wrong and the user can cure it.

    The message is one sentence that names the file or field and the cure. The command line
    prints it without a traceback and exits with a non-zero code.
    """


class CalculationError(Exception):
    """The calculation of one structure left nothing that can be used.

    The message is the reason that is stored with the candidate, which has failed; its neighbours
    go on.
    """
