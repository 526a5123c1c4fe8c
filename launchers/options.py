"""Options that take several values, as in ``--against random substitution``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperOption

if TYPE_CHECKING:
    from collections.abc import Iterator


class SeveralValues(TyperCommand):
    """A command whose repeatable options also take all their values at once.

    Everything up to the next option belongs to such an option, so it comes after the arguments.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option before each of its values, which is what click understands."""
        repeatable = {
            name
            for option in self.params
            if isinstance(option, TyperOption) and option.multiple
            for name in option.opts
        }
        return super().parse_args(ctx, list(_repeated(args, repeatable)))


def _repeated(args: list[str], repeatable: set[str]) -> Iterator[str]:
    option, n_values = None, 0
    for arg in args:
        if arg.startswith("-"):
            option, n_values = (arg if arg in repeatable else None), 0
        elif option is not None:
            if n_values:
                yield option
            n_values += 1
        yield arg
