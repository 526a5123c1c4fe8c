"""The settings of campaign.yaml as a table, read from the models that check them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

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
    """List every key of a settings model, sections resolved."""
    for name, field in model.model_fields.items():
        key = prefix + name
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from settings_of(section, key + ".")
        else:
            yield Setting(key, _default(field), field.description or "")


def as_markdown(settings: Iterator[Setting]) -> str:
    """Write settings as a Markdown table."""
    rows = [
        f"| `{s.key}` | {f'`{s.default}`' if s.default else ''} | {s.description} |"
        for s in settings
    ]
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows])


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    return "required" if value is PydanticUndefined else json.dumps(value, default=str)
