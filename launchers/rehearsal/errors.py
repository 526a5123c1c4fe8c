"""Errors in the inputs of the stand-in."""

from __future__ import annotations


class InputError(Exception):
    """An input file that VASP would reject, or that the stand-in does not support."""
