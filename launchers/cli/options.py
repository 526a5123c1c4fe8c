"""Options that take several values, as in ``--against random substitution``."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperOption


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
