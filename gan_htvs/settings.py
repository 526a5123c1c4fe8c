"""Base of every section of campaign.yaml, kinds of numbers in them, files, and what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from gan_htvs.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]

_WORDS = {
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "path_type": "must be a path",
    "too_long": "must have no more than {max_length} items",
    "too_short": "must have {min_length} or more items",
    "tuple_type": "must be a list",
}
"""Ours for kinds of problems of which pydantic tells in terms of Python."""

_KINDS_OF_NUMBERS = {"float", "int"}
"""Which pydantic adds to the field where a number may be of either."""


class Settings(BaseModel):
    """Base of every section: immutable, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values with the name of the class, from which monty makes it again."""
        return {
            "@module": type(self).__module__,
            "@class": type(self).__name__,
            **self.model_dump(mode="json"),
        }


def first_error(error: ValidationError) -> ErrorDetails:
    """Choose what to tell: an unknown key, if there is one, since it may be a missing one."""
    return min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")


def first_problem(error: ValidationError) -> str:
    """Tell the first problem of a validation as 'field: what is wrong', or without a field."""
    problem = first_error(error)
    field = ".".join(str(part) for part in problem["loc"] if part not in _KINDS_OF_NUMBERS)
    if problem["type"] == "missing":
        return f"{field} is required"
    message = _message(problem)
    return f"{field}: {message}" if field else message


def first_message(error: ValidationError) -> str:
    """Tell the first of the errors of a validation without its field."""
    return _message(error.errors()[0])


def _message(problem: ErrorDetails) -> str:
    if problem["type"] in _WORDS:
        return _WORDS[problem["type"]].format_map(problem.get("ctx", {}))
    message = problem["msg"]
    if problem["type"] == "value_error":  # our own words
        return message.removeprefix("Value error, ")
    return f"{message[:1].lower()}{message[1:]}"


class _UniqueKeyLoader(yaml.SafeLoader):
    """Reads YAML, and takes a key that stands twice in one mapping for the mistake that it is."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here, since later `<<` has brought in keys that may be overridden.
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else key
            if name in seen:
                problem = f"it repeats key {key.value!r}; keep one"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(name)
        return node


def read_text(path: Path, hint: str) -> str:
    """Read a file of settings.

    Parameters
    ----------
    hint
        Where such a file comes from, as the end of a sentence.

    Raises
    ------
    UserError
        If it is missing or cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path}: not found; {hint}.") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read: {reason}.") from error


def read_mapping(path: Path, hint: str) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Parameters
    ----------
    hint
        Where such a file comes from, as the end of a sentence.

    Raises
    ------
    UserError
        If it does not, or repeats a key, with the line where it is no YAML.
    """
    text = read_text(path, hint)
    try:
        document = yaml.load(text, _UniqueKeyLoader)  # noqa: S506 - it is a safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "syntax error"
        raise UserError(f"{path}:{where} is not valid YAML: {problem}.") from error
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected a mapping of settings, found {document!r:.40}; {hint}.")
    return document
