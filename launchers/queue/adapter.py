"""Read FWorker files and queue adapters.

The values of a queue adapter must reach the batch script exactly as the user wrote them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fireworks import FWorker
from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter

from gan_htvs.core.errors import UserError
from gan_htvs.core.settings import read_mapping
from launchers.launchpad.batch_system import BatchSystem
from launchers.queue.profiles import DIALECTS, SIZES

if TYPE_CHECKING:
    from pathlib import Path


def read_adapter(path: Path) -> CommonAdapter:
    """Read a queue adapter.

    Raises
    ------
    UserError
        If the file is not a queue adapter, YAML changes an unquoted value, or the batch system does
        not accept an amount of memory.
    """
    document = read_mapping(path, init_hint(path.parent.parent), as_written=True)
    for key in ("queue", "rocket_launch"):  # FireWorks passes them to other programs unchanged
        if not isinstance(document.get(key), str | None):
            raise UserError(f"{path}: {key} must be text; quote it: {key}: '{document[key]}'.")
    try:
        adapter = CommonAdapter.from_dict(document)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a FireWorks queue adapter: {error}.") from error
    if (system := system_of(adapter)) is not None:
        form = DIALECTS[system].size
        for key in SIZES:
            size = adapter.get(key)
            if size is not None and not re.fullmatch(form.pattern, str(size), re.IGNORECASE):
                raise UserError(
                    f"{path}: {key}: {size} is not an amount of memory for {system.upper()}; write "
                    f"{form.description}."
                )
    return adapter


def read_fworker(path: Path) -> FWorker:
    """Read an FWorker file.

    Raises
    ------
    UserError
        If the file is missing or is not an FWorker file.
    """
    hint = init_hint(path.parent.parent)
    try:
        return FWorker.from_dict(read_mapping(path, hint))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: expected FireWorks' worker settings (name, category, query, env); {hint}."
        ) from error


def system_of(adapter: CommonAdapter) -> BatchSystem | None:
    """Return the batch system of an adapter; None if this package does not support it."""
    name = adapter.q_type.lower()
    return BatchSystem(name) if name in {*BatchSystem} else None


def init_hint(folder: Path) -> str:
    """Return a hint how to restore a missing or broken file."""
    return f"run `gan-htvs queue init {folder}` with the same options to write it"
