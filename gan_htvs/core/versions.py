"""Versions of packages that affect results."""

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
"""Packages whose version may change results or the compatibility of two machines."""


@cache
def versions() -> dict[str, str]:
    """Return the versions of the installed packages."""
    installed = {"gan-htvs": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            installed[package] = metadata.version(package)
    return installed
