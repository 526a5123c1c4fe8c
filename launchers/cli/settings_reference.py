"""The table of settings of campaign.yaml, generated from their pydantic models."""

from __future__ import annotations

import json
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo


class Setting(NamedTuple):
    """One key of campaign.yaml."""

    key: str
    default: str
    description: str


def settings_of(model: type[BaseModel], prefix: str = "") -> Iterator[Setting]:
    """Yield every key of a settings model, with those of its sections and of items of its lists."""
    for name, field in model.model_fields.items():
        key = prefix + name
        section = _section(field.annotation)
        if section is None or field.description:  # optional sections have a description
            yield Setting(key, "" if section else _default(field), field.description or "")
        if section is not None:
            yield from settings_of(section, key + ".")
        elif (item := _item(field.annotation)) is not None:
            yield from settings_of(item, key + "[].")


def as_markdown(settings: Iterator[Setting]) -> str:
    """Return settings as a Markdown table."""
    rows = [
        f"| `{s.key}` | {f'`{s.default}`' if s.default else ''} | {s.description} |"
        for s in settings
    ]
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows])


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the model of a section or optional section; None for a plain setting."""
    alternatives = get_args(annotation) if NoneType in get_args(annotation) else (annotation,)
    models = (a for a in alternatives if isinstance(a, type) and issubclass(a, BaseModel))
    return next(models, None)


def _item(annotation: Any) -> type[BaseModel] | None:
    """Return the model of the items of a list or mapping; None if they are plain values."""
    models = (a for a in get_args(annotation) if isinstance(a, type) and issubclass(a, BaseModel))
    return next(models, None)


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    if isinstance(value, tuple):
        value = [
            getattr(item, "name", "") if isinstance(item, BaseModel) else item for item in value
        ]
    return "required" if value is PydanticUndefined else json.dumps(value, default=str)
