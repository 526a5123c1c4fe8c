"""Writing of YAML that readers of YAML 1.1 and of YAML 1.2 read alike."""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Dumper of YAML 1.1 that also quotes text which YAML 1.2 reads as a number: 1e5, 0o17."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"0o[0-7]+|[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?"),
    list("-+.0123456789"),
)


def yaml_text(value: Any, **options: Any) -> str:
    """Return plain values as YAML; keys keep their order.

    Parameters
    ----------
    value
        Mappings, lists, text, numbers, truth values and None.
    options
        Options of ``yaml.dump``, such as ``width``.
    """
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, **options))
