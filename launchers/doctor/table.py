"""The diagnosis, for people and for programs."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from launchers import console
from launchers.doctor.check import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from launchers.doctor.check import Check

_STYLES = {
    State.OK: "green",
    State.WARNING: "yellow",
    State.FAILURE: "bold red",
    State.SKIPPED: "dim",
}


def print_table(checks: Sequence[Check]) -> None:
    """Print a line for each check, its cure below what was found."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("check", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("found, and cure", overflow="fold")
    for check in checks:
        style = _STYLES[check.state]
        found = escape(check.found)
        if check.cure is not None:
            found += f"\n[bold]cure:[/bold] {escape(check.cure)}"
        table.add_row(check.name, f"[{style}]{check.state}[/{style}]", found)
    console.out.print(table)
    counts = {state: sum(check.state is state for check in checks) for state in State}
    console.out.print(", ".join(f"{n} {state}" for state, n in counts.items() if n))


def as_json(checks: Sequence[Check]) -> str:
    """Write the checks as a JSON array of objects with name, state, found and cure."""
    return json.dumps([check.as_dict() for check in checks], indent=1)


@contextmanager
def watching() -> Iterator[Callable[[str], None]]:
    """Name the check that is under way, on a terminal."""
    if not console.err.is_terminal:
        yield lambda _: None
        return
    with console.err.status("examining") as status:
        yield lambda name: status.update(f"examining: {name}")
