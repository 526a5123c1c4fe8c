"""What makes the stand-in stop before it computes anything."""

from __future__ import annotations


class InputError(Exception):
    """An input file that VASP would not take, or that is not rehearsed; the message says which."""
