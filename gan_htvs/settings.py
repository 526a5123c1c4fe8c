"""Base of every section of campaign.yaml, kinds of numbers in them, files, and what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from gan_htvs.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import ValidationError

PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]


class Settings(BaseModel):
    """Base of every section: immutable, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def first_problem(error: ValidationError) -> str:
    """Tell the first problem of a validation as 'field: what is wrong', or without a field."""
    problem = error.errors()[0]
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{field} is required"
    message = first_message(error)
    return f"{field}: {message}" if field else message


def first_message(error: ValidationError) -> str:
    """Tell the first problem of a validation without its field."""
    problem = error.errors()[0]
    message = problem["msg"]
    if problem["type"] == "value_error":  # our own words
        return message.removeprefix("Value error, ")
    return f"{message[:1].lower()}{message[1:]}"


def read_mapping(path: Path, cure: str) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Parameters
    ----------
    cure
        Where such a file comes from, as the end of a sentence.

    Raises
    ------
    UserError
        If it does not, with the line where it is no YAML.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: not found; {cure}.") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read: {reason}.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "syntax error"
        raise UserError(f"{path}:{where} is not valid YAML: {problem}.") from error
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected a mapping of settings, found {document!r:.40}; {cure}.")
    return document
