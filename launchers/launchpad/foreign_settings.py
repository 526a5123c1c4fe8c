"""Settings files of FireWorks and jobflow that the same user or group has for other programs.

FireWorks reads ``FW_config.yaml`` when it is imported, prints to stdout, and raises its own errors.
:func:`guard_fireworks` makes that import silent and checks the file. jobflow reads ``jobflow.yaml``
when it is imported; :func:`set_aside_jobflow_settings` hides this file because it is not used here.
:mod:`launchers.queue.scripts` chooses the launchpad file of a command.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import redirect_stdout
from importlib.machinery import PathFinder, SourceFileLoader
from importlib.metadata import version
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, ValidationError, create_model

from gan_htvs.core.environment import temporary_values
from gan_htvs.core.errors import UserError
from gan_htvs.core.settings import first_problem, read_mapping

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

FIREWORKS_SETTINGS = "fireworks.fw_config"
"""The module that reads the settings of FireWorks."""

FIREWORKS_FILE = "FW_config.yaml"
FIREWORKS_VARIABLE = "FW_CONFIG_FILE"
MONGOMOCK_VARIABLE = "MONGOMOCK_SERVERSTORE_FILE"

UNUSED = frozenset({"ECHO_TEST", "DS_PASSWORD", MONGOMOCK_VARIABLE})
"""Settings of FireWorks without effect here.

They are a text for stdout, the key of ``rlaunch multi``, which is generated for each call, and a
file that would replace the database.
"""

MAY_BE_NULL = frozenset({"GRIDFS_FALLBACK_COLLECTION"})

JOBFLOW_PREFIX = "JOBFLOW_"
JOBFLOW_VARIABLE = "JOBFLOW_CONFIG_FILE"
NO_FILE = f"{os.devnull}/jobflow.yaml"

_set_aside: dict[str, str] = {}


def guard_fireworks() -> None:
    """Check the settings of FireWorks and keep stdout clean when FireWorks is imported.

    This has no effect if FireWorks is already imported, as by its own commands.
    """
    sys.meta_path.insert(0, _Finder)


class _Finder:
    """Import finder that replaces the loader of FireWorks' settings module."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec with the replaced loader; None for all other modules."""
        spec = PathFinder.find_spec(name, path, target) if name == FIREWORKS_SETTINGS else None
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(name, spec.origin)
        return spec


class _Loader(SourceFileLoader):
    """Loader that gives FireWorks' settings module checked settings instead of the file's."""

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module; it defines FireWorks' defaults before it reads the file."""
        from monty import serialization  # noqa: PLC0415 - FireWorks is imported anyway

        def load(path: str) -> dict[str, Any]:
            return checked_settings(Path(path), vars(module))

        with (
            temporary_values(os.environ, {MONGOMOCK_VARIABLE: ""}),
            temporary_values(vars(serialization), {"loadfn": load}),
            redirect_stdout(StringIO()),
        ):
            super().exec_module(module)
        module.loadfn = serialization.loadfn  # type: ignore[attr-defined]


def checked_settings(path: Path, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Read the settings of FireWorks that have an effect here.

    Parameters
    ----------
    path
        FW_config.yaml.
    defaults
        All settings of FireWorks by name, with their default values.

    Raises
    ------
    UserError
        If the file cannot be read, or has an unknown setting or an invalid value.
    """
    settings = read_mapping(path, "write one `KEY: value` per line, or delete the file")
    settings = {key: value for key, value in settings.items() if key not in UNUSED}
    defaults = {key: value for key, value in defaults.items() if key == key.upper()}
    fields: dict[str, Any] = {
        key: (_type_of(key, default), None)
        for key, default in (defaults | {"ADD_USER_PACKAGES": []}).items()
    }
    # Without the values, which may contain credentials.
    config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)
    try:
        create_model("FireWorks", __config__=config, **fields).model_validate(settings)
    except ValidationError as error:
        raise UserError(
            f"{path}: {first_problem(error)} (FireWorks {version('fireworks')}); correct or "
            "delete it."
        ) from None
    return settings


def _type_of(key: str, default: Any) -> Any:
    """Return the type of a setting for pydantic."""
    if key.endswith("LOGLEVEL"):
        return Literal[tuple(logging.getLevelNamesMapping())]
    if default is None or key in MAY_BE_NULL:
        return str | None
    return float if type(default) is int else type(default)


def fireworks_files() -> list[Path]:
    """Return the existing settings files of FireWorks in its order; it reads only the first."""
    folders = [Path.cwd(), Path.home() / ".fireworks"]
    if (spec := find_spec("fireworks")) is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parents[1])
    paths = [folder / FIREWORKS_FILE for folder in folders]
    if named := os.environ.get(FIREWORKS_VARIABLE):
        paths.append(Path(named))
    return [path for path in dict.fromkeys(paths) if path.exists()]


def set_aside_jobflow_settings() -> None:
    """Hide jobflow's settings from this process and its children."""
    for name in [name for name in os.environ if name.upper().startswith(JOBFLOW_PREFIX)]:
        _set_aside[name] = os.environ.pop(name)
    os.environ[JOBFLOW_VARIABLE] = NO_FILE


def restore_jobflow_settings() -> None:
    """Restore jobflow's settings for programs that are started later, such as batch jobs."""
    if os.environ.get(JOBFLOW_VARIABLE) == NO_FILE:
        del os.environ[JOBFLOW_VARIABLE]
    os.environ.update(_set_aside)
    _set_aside.clear()


def jobflow_file() -> Path:
    """Return the path of jobflow's settings file of other programs."""
    named = (os.environ | _set_aside).get(JOBFLOW_VARIABLE, NO_FILE)
    return Path("~/.jobflow.yaml" if named == NO_FILE else named).expanduser()
