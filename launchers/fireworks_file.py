"""FireWorks' own files, read with the YAML 1.2 that FireWorks reads them with.

In YAML 1.1, which campaign.yaml is in, ``24:00:00`` is a number and ``No`` a truth value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode

from gan_htvs.errors import UserError
from gan_htvs.settings import read_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def read_fireworks_file(path: Path, hint: str) -> dict[str, Any]:
    """Read my_launchpad.yaml, FW_config.yaml or a queue adapter.

    Parameters
    ----------
    hint
        Where such a file comes from, as the end of a sentence.

    Raises
    ------
    UserError
        If it cannot be read or is no mapping. Nothing of the text is quoted, since it may be a
        password.
    """
    document = _parse(path, read_text(path, hint), "load")
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected a mapping of settings; {hint}.")
    return document


def check_unquoted(path: Path, settings: Mapping[str, Any]) -> None:
    """Refuse values that YAML reads as something else than what is written.

    Parameters
    ----------
    path
        Path of the file.
    settings
        What :func:`read_fireworks_file` returned for it.

    Raises
    ------
    UserError
        If there is one: ``0123`` is the number 123, ``1.10`` is 1.1, ``true`` a truth value.
    """
    root = _parse(path, read_text(path, ""), "compose")
    values = root.value if isinstance(root, MappingNode) else ()
    for key, node in values:
        value = settings.get(key.value)
        if isinstance(node, ScalarNode) and value is not None and str(value) != node.value:
            raise UserError(
                f"{path}: {key.value}: {node.value} is read as {value!r}; quote it: "
                f"{key.value}: '{node.value}'."
            )


def _parse(path: Path, text: str, how: str) -> Any:
    try:
        return getattr(YAML(typ="safe", pure=True), how)(text)
    except (YAMLError, ValueError) as error:  # ValueError: a date that there is not
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise UserError(
            f"{path}:{where} is not valid YAML, or repeats a key; put quotes around values with "
            "special characters."
        ) from None
