"""Versions of the packages that decide results."""

from __future__ import annotations

import platform
from contextlib import suppress
from functools import cache
from importlib import metadata

from gan_htvs import __version__

PACKAGES = (
    "ase",
    "atomate2",
    "chgnet",
    "custodian",
    "emmet-core",
    "fireworks",
    "gpaw",
    "jobflow",
    "maggma",
    "numpy",
    "pymatgen",
    "pyxtal",
    "scipy",
    "sevenn",
    "spglib",
    "torch",
)
"""Packages whose version may change a result, or whether two machines understand each other."""


@cache
def versions() -> dict[str, str]:
    """Return the installed versions; packages that are not installed are left out."""
    found = {"gan-htvs": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
