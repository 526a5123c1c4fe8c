"""Types of options, and options with several values: ``--against random substitution``."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption


class FunnelTemplate(StrEnum):
    """Stages of the funnel to start from."""

    PHOTOANODE = "photoanode"
    CATHODE = "cathode"
    HULL = "hull"


Words = list[str] | None
"""Type of an option with several values."""


def several(help_text: str, metavar: str) -> Any:
    """Return an option with several values for a command of class :class:`SeveralValues`."""
    return typer.Option(help=help_text, metavar=f"{metavar} ...")


class SeveralValues(TyperCommand):
    """Command whose repeatable options accept several values.

    All words up to the next option are values, so such an option must follow the arguments.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option before each of its values, as click expects."""
        repeatable = {
            name
            for option in self.params
            if isinstance(option, TyperOption) and option.multiple
            for name in option.opts
        }
        option: str | None = None
        repeated: list[str] = []
        for arg in args:
            if arg.startswith("-"):
                option = arg if arg in repeatable else None
            elif option is not None and repeated[-1] != option:
                repeated.append(option)
            repeated.append(arg)
        return super().parse_args(ctx, repeated)
