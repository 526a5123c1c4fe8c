"""The one exception type that reaches a user as a sentence instead of a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Something outside the program is wrong and the user can cure it.

    The message is one sentence that names the file or field and the cure. The command line
    prints it without a traceback and exits with a non-zero code.
    """
