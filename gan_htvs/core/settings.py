"""Base class of settings, types of their numbers, reading of YAML files, validation messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from gan_htvs.core.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
NonPositiveFloat = Annotated[float, Field(le=0)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]

_MESSAGES = {
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "path_type": "must be a path",
    "string_type": "must be text; quote a number, date or truth value, as in '12' or 'No'",
    "too_long": "must have no more than {max_length} items",
    "too_short": "must have {min_length} or more items",
    "tuple_type": "must be a list",
}
"""Messages that replace those of pydantic, by type of error."""

_NUMBER_TYPES = {"float", "int"}
"""Parts that pydantic adds to the location of fields that accept both."""

_KEY = "[key]"
"""Last part of the location of a problem with a key of a mapping."""


class Settings(BaseModel):
    """Base class of all sections of campaign.yaml: immutable, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values with the name of the class, as monty expects them."""
        return {
            "@module": type(self).__module__,
            "@class": type(self).__name__,
            **self.model_dump(mode="json"),
        }


def first_error(error: ValidationError) -> ErrorDetails:
    """Return the first unknown key, which may be a misspelled required key, or the first error."""
    return min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")


def first_problem(error: ValidationError) -> str:
    """Format the first problem of a validation as 'field: what is wrong'."""
    problem = first_error(error)
    parts = [str(part) for part in problem["loc"] if part not in _NUMBER_TYPES]
    of_key = parts[-1:] == [_KEY]
    field = ".".join(parts[:-2] if of_key else parts)
    if problem["type"] == "missing":
        return f"{field} is required"
    message = ("a key " if of_key else "") + _message(problem)
    return f"{field}: {message}" if field else message


def first_message(error: ValidationError) -> str:
    """Format the first error of a validation without its field."""
    return _message(error.errors()[0])


def _message(problem: ErrorDetails) -> str:
    if problem["type"] in _MESSAGES:
        return _MESSAGES[problem["type"]].format_map(problem.get("ctx", {}))
    message = problem["msg"]
    if problem["type"] == "value_error":  # raised by a validator of this project
        return message.removeprefix("Value error, ")
    return f"{message[:1].lower()}{message[1:]}"


def read_text(path: Path, hint: str) -> str:
    """Read a file of settings.

    Parameters
    ----------
    hint
        How to create such a file, as the end of a sentence.

    Raises
    ------
    UserError
        If the file is missing or cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path}: not found; {hint}.") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read: {reason}.") from error


def read_mapping(path: Path, hint: str, *, as_written: bool = False) -> dict[str, Any]:
    """Read a YAML 1.2 file with one mapping.

    In YAML 1.1 the formula ``No`` would be a truth value, and the walltime ``24:00:00`` a number.

    Parameters
    ----------
    hint
        How to create such a file, as the end of a sentence.
    as_written
        Whether to refuse values whose text differs from the value that YAML reads: ``0123`` is read
        as 123, ``1.10`` as 1.1.

    Raises
    ------
    UserError
        If the file is missing, is not a mapping, repeats a key, or is not valid YAML; with the
        number of the line. The line is not quoted, since it may have a password.
    """
    text = read_text(path, hint)
    try:
        document = YAML(typ="safe", pure=True).load(text)
        texts = YAML(typ="base", pure=True).load(text) if as_written else {}
    except (YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise UserError(
            f"{path}:{where} is not valid YAML or repeats a key; quote values with special "
            "characters."
        ) from None
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected a mapping of settings; {hint}.")
    for key, written in texts.items():
        value = document.get(key)
        if isinstance(written, str) and value is not None and str(value) != written:
            raise UserError(
                f"{path}: {key}: {written} is read as {value!r}; quote it: {key}: '{written}'."
            )
    return document
