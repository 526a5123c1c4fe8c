"""Settings of FireWorks and jobflow that belong to other programs of the same user or group.

FireWorks reads ``FW_config.yaml`` while it is imported, prints to stdout meanwhile, and raises
errors of its own. :func:`guard_fireworks` makes that import silent and checks the file. jobflow
reads ``jobflow.yaml`` while it is imported; nothing of that file is used here, so
:func:`set_aside_jobflow_settings` hides it. Which launchpad file a command acts on is decided in
:mod:`launchers.scripts`.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import redirect_stdout
from importlib.machinery import PathFinder
from importlib.metadata import version
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_htvs.errors import UserError
from gan_htvs.settings import read_mapping

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

FIREWORKS_SETTINGS = "fireworks.fw_config"
"""The module that reads the settings of FireWorks."""

FIREWORKS_FILE = "FW_config.yaml"
FIREWORKS_VARIABLE = "FW_CONFIG_FILE"
MONGOMOCK_VARIABLE = "MONGOMOCK_SERVERSTORE_FILE"

UNUSED = frozenset({"ECHO_TEST", "DS_PASSWORD", MONGOMOCK_VARIABLE})
"""Settings of FireWorks without effect here.

They are a text for stdout, the key of ``rlaunch multi``, which is drawn anew each time, and a file
that would replace the database that is named.
"""

MAY_BE_NULL = frozenset({"GRIDFS_FALLBACK_COLLECTION"})

JOBFLOW_PREFIX = "JOBFLOW_"
JOBFLOW_VARIABLE = "JOBFLOW_CONFIG_FILE"
NO_FILE = f"{os.devnull}/jobflow.yaml"

_set_aside: dict[str, str] = {}


def guard_fireworks() -> None:
    """Check the settings of FireWorks and keep stdout clean when something imports it.

    It does nothing where FireWorks is imported already, as by its own commands.
    """
    if not any(isinstance(finder, _Guard) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Guard())


class _Guard:
    """Finds the module with FireWorks' settings, and replaces how it is executed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return None for all other modules, which leaves them to Python."""
        if name != FIREWORKS_SETTINGS:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module
            spec.loader.exec_module = lambda module: _execute(module, execute)  # type: ignore[method-assign]
        return spec


def _execute(module: ModuleType, execute: Callable[[ModuleType], None]) -> None:
    """Import FireWorks' settings with checked ones in place of the file's."""
    from monty import serialization  # noqa: PLC0415 - FireWorks is imported anyway

    original = serialization.loadfn
    mongomock = os.environ.pop(MONGOMOCK_VARIABLE, None)
    # FireWorks calls it with the path of its settings while the module holds the defaults.
    serialization.loadfn = lambda path: checked_settings(Path(path), vars(module))
    try:
        with redirect_stdout(StringIO()):
            execute(module)
        module.loadfn = original  # type: ignore[attr-defined]
    finally:
        serialization.loadfn = original
        if mongomock is not None:
            os.environ[MONGOMOCK_VARIABLE] = mongomock


def checked_settings(path: Path, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Read those settings of FireWorks that have an effect here.

    Parameters
    ----------
    path
        A FW_config.yaml.
    defaults
        FireWorks' settings by name; other names are none.

    Raises
    ------
    UserError
        If the file cannot be read, or has a setting or a value that FireWorks does not know.
    """
    settings = read_mapping(path, "write one `KEY: value` in each line, or delete the file")
    for key, value in settings.items():
        if key in UNUSED:
            continue
        default = [] if key == "ADD_USER_PACKAGES" else defaults.get(key, ...)
        if default is ... or key != key.upper():
            raise UserError(
                f"{path}: {key} is not a setting of FireWorks {version('fireworks')}; correct or "
                "delete it."
            )
        if (expected := _mismatch(key, value, default)) is not None:
            raise UserError(
                f"{path}: {key} ({_shown(value)}) must be {expected}; correct or delete it."
            )
    return {key: value for key, value in settings.items() if key not in UNUSED}


def _mismatch(key: str, value: Any, default: Any) -> str | None:
    """Return what a value should be, or None if it is that."""
    if key.endswith("LOGLEVEL"):
        levels = list(logging.getLevelNamesMapping())
        return None if value in levels else f"one of {', '.join(levels)}"
    if value is None and (default is None or key in MAY_BE_NULL):
        return None
    types: dict[type, tuple[tuple[type, ...], str]] = {
        bool: ((bool,), "true or false"),
        int: ((int, float), "a number"),
        list: ((list,), "a list"),
        dict: ((dict,), "a mapping"),
    }
    accepted, expected = types.get(type(default), ((str,), "a text"))
    is_right = isinstance(value, accepted) and (bool in accepted or not isinstance(value, bool))
    return None if is_right else expected


def _shown(value: Any) -> str:
    """Show a value; a mapping or list may hold credentials."""
    return type(value).__name__ if isinstance(value, (dict, list)) else f"{value!r:.40}"


def fireworks_files() -> list[Path]:
    """Find the settings files of FireWorks in its order: it reads the first and no other."""
    folders = [Path.cwd(), Path.home() / ".fireworks"]
    if (spec := find_spec("fireworks")) is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parents[1])
    paths = [folder / FIREWORKS_FILE for folder in folders]
    if named := os.environ.get(FIREWORKS_VARIABLE):
        paths.append(Path(named))
    return [path for path in dict.fromkeys(paths) if path.exists()]


def set_aside_jobflow_settings() -> None:
    """Hide jobflow's settings from this process and its children: none are used here."""
    for name in [name for name in os.environ if name.upper().startswith(JOBFLOW_PREFIX)]:
        _set_aside[name] = os.environ.pop(name)
    os.environ[JOBFLOW_VARIABLE] = NO_FILE


def restore_jobflow_settings() -> None:
    """Show jobflow's settings to programs that are started from now on, such as batch jobs."""
    if os.environ.get(JOBFLOW_VARIABLE) == NO_FILE:
        del os.environ[JOBFLOW_VARIABLE]
    os.environ.update(_set_aside)
    _set_aside.clear()


def jobflow_file() -> Path:
    """Return where jobflow's settings are for other programs."""
    named = _set_aside.get(JOBFLOW_VARIABLE) or os.environ.get(JOBFLOW_VARIABLE)
    return Path(named or "~/.jobflow.yaml").expanduser()
