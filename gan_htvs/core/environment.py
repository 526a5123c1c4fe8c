"""Temporary values of environment variables and of other mappings of this process."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping

Value = TypeVar("Value")


@contextmanager
def temporary_values(
    mapping: MutableMapping[str, Value], values: Mapping[str, Value]
) -> Iterator[None]:
    """Set values of a mapping inside the block, and restore the previous ones after it.

    Parameters
    ----------
    mapping
        ``os.environ``, the settings of a library, or ``vars(module)``.
    values
        Values inside the block by key.

    Examples
    --------
    >>> import os
    >>> with temporary_values(os.environ, {"GAN_HTVS_EXAMPLE": "1"}):
    ...     os.environ["GAN_HTVS_EXAMPLE"]
    '1'
    >>> "GAN_HTVS_EXAMPLE" in os.environ
    False
    """
    previous = {key: mapping[key] for key in values if key in mapping}
    mapping.update(values)
    try:
        yield
    finally:
        for key in values.keys() - previous.keys():
            mapping.pop(key, None)
        mapping.update(previous)
