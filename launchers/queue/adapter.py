"""FWorker files and queue adapters, whose values must reach the batch script as written."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from typing import TYPE_CHECKING

from fireworks import FWorker
from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter

from gan_htvs.core.errors import UserError
from gan_htvs.core.settings import read_mapping
from launchers.launchpad.batch_system import BatchSystem
from launchers.queue.dialects import DIALECTS, SIZES
from launchers.queue.profiles import seconds_of

if TYPE_CHECKING:
    from pathlib import Path


def read_adapter(path: Path) -> CommonAdapter:
    """Read a queue adapter.

    Raises
    ------
    UserError
        If it is no queue adapter, if YAML changes a value that is not quoted, or if the batch
        system does not understand an amount of memory.
    """
    document = read_mapping(path, init_hint(path.parent.parent), as_written=True)
    for key in ("queue", "rocket_launch"):  # FireWorks passes them to programs as they are
        if not isinstance(document.get(key), str | None):
            raise UserError(f"{path}: {key}: must be text; quote it: {key}: '{document[key]}'.")
    try:
        adapter = CommonAdapter.from_dict(document)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: no queue adapter of FireWorks: {error}.") from error
    if (system := system_of(adapter)) is not None:
        dialect = DIALECTS[system]
        for key in SIZES:
            size = adapter.get(key)
            if size is not None and not re.fullmatch(dialect.size, str(size), re.IGNORECASE):
                raise UserError(
                    f"{path}: {key}: {size} is no amount of memory for {system.upper()}; write it "
                    f"as {dialect.size_forms}."
                )
    return adapter


def read_fworker(path: Path) -> FWorker:
    """Read an FWorker file.

    Raises
    ------
    UserError
        If it is missing or is none.
    """
    hint = init_hint(path.parent.parent)
    try:
        return FWorker.from_dict(read_mapping(path, hint))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: expected FireWorks' worker settings (name, category, query, env); {hint}."
        ) from error


def system_of(adapter: CommonAdapter) -> BatchSystem | None:
    """Return the batch system of an adapter; None if it is one that only FireWorks knows."""
    name = adapter.q_type.lower()
    return BatchSystem(name) if name in {*BatchSystem} else None


def launch_options(adapter: CommonAdapter) -> dict[str, str]:
    """Return the options of the command that starts workers: each word and the next one."""
    return dict(pairwise(shlex.split(adapter.get("rocket_launch") or "")))


def time_limits(path: Path, adapter: CommonAdapter) -> tuple[int, int]:
    """Return how long a batch job runs and after how long its workers start no job, s.

    Raises
    ------
    UserError
        If one of them is no time.
    """
    try:
        walltime = seconds_of(str(adapter.get("walltime")), system_of(adapter))
        return walltime, int(launch_options(adapter).get("--timeout", 0))
    except ValueError as error:
        raise UserError(f"{path}: walltime or --timeout of rlaunch: {error}.") from error


def init_hint(folder: Path) -> str:
    """Return how to restore a file that is missing or broken."""
    return f"`gan-htvs queue init {folder}` with the same options writes it"
