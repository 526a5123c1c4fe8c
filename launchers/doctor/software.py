"""Python, its packages, and the programs that come with them."""

from __future__ import annotations

import platform
import shutil
import sys
import time
import zipfile
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from gan_htvs.errors import UserError
from gan_htvs.potentials import calculator_of, weights_file
from launchers.doctor.check import Finding, failure, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterable

DISTRIBUTION = "gan-htvs"
OLDEST_PYTHON = (3, 11)
IMPORTED = ("torch", "pymatgen.core", "jobflow", "fireworks", "atomate2.vasp.sets.core")
SLOW_IMPORTS = 30.0
"""Every worker and every job waits for them, s."""


def python() -> Finding:
    """Look at the interpreter."""
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return failure(found, f"make the virtual environment with Python {oldest} or newer")
    return ok(found)


def libraries() -> Finding:
    """Compare what is installed with what this package is declared to need.

    Versions that are known not to work are excluded there, in pyproject.toml.
    """
    try:
        declared = [Requirement(text) for text in requires(DISTRIBUTION) or ()]
    except PackageNotFoundError:
        return failure(f"{DISTRIBUTION} itself is not installed", f"pip install {DISTRIBUTION}")
    return compare_versions(declared)


def compare_versions(declared: Iterable[Requirement]) -> Finding:
    """Compare what is installed with requirements.

    What belongs to an extra may be absent, but not of a wrong version.
    """
    installed: dict[str, str] = {}
    wrong: dict[Requirement, str] = {}
    for requirement in declared:
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            if _is_optional(requirement):
                continue
            wrong[requirement] = "missing"
            continue
        if not _is_optional(requirement):
            installed[requirement.name] = found
        if not requirement.specifier.contains(found, prereleases=True):
            wrong[requirement] = found
    if not wrong:
        return ok(", ".join(f"{name} {found}" for name, found in sorted(installed.items())))
    tell = warning if all(map(_is_optional, wrong)) else failure
    return tell(
        "; ".join(f"{r.name} is {is_}, needed is {r.specifier}" for r, is_ in wrong.items()),
        "pip install " + " ".join(f"'{r.name}{r.specifier}'" for r in wrong),
    )


def _is_optional(requirement: Requirement) -> bool:
    return requirement.marker is not None and not requirement.marker.evaluate()


def imports() -> Finding:
    """Import what every job imports: broken installations and slow file systems show here."""
    start = time.perf_counter()
    for name in IMPORTED:
        try:
            import_module(name)
        except UserError:  # which names the file and the fix
            raise
        except Exception as error:  # noqa: BLE001 - whatever a module or its settings raise
            reason = (str(error).splitlines() or [""])[0]
            return failure(
                f"`import {name}` fails: {type(error).__name__}: {reason:.200}",
                "correct the settings file that the sentence names, or set up the virtual "
                "environment again",
            )
    seconds = time.perf_counter() - start
    found = f"{seconds:.1f} s for {', '.join(IMPORTED)}"
    if seconds > SLOW_IMPORTS:
        return warning(found, "put the virtual environment on a faster file system")
    return ok(found)


def potential(name: str) -> Finding:
    """Find the weights of a potential that come with its package, and see that they are whole."""
    path = weights_file(name)
    try:
        with zipfile.ZipFile(path) as archive:  # PyTorch's format, with a checksum of each tensor
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        damaged = str(error)
    if damaged is not None:
        package = path.parents[2].name
        return failure(
            f"{path} is damaged: {damaged}", f"pip install --force-reinstall --no-deps {package}"
        )
    return ok(f"{path.name}, {path.stat().st_size / 1e6:.1f} MB, whole")


def force_field(name: str, arguments: dict[str, Any]) -> Finding:
    """Load one of atomate2's force fields: where its weights are, only its package knows."""
    return ok(f"loads as {type(calculator_of(name, **arguments)).__name__}")


def gpaw() -> Finding:
    """Ask the engine whether GPAW works here."""
    from flows.engines.gpaw import availability

    obstacle = availability()
    if obstacle is None:
        return ok(f"{version('gpaw')}")
    found, _, cure = obstacle.partition(": ")
    return failure(found, cure)


def custodian() -> Finding:
    """See whether VASP's errors will be corrected."""
    if find_spec("custodian") is None:
        return failure("custodian is not installed", "pip install custodian")
    return ok(version("custodian"))


def enumlib() -> Finding:
    """Find the programs behind pymatgen's enumeration of magnetic orders."""
    programs = {
        "enum.x": ("enum.x", "multienum.x"),
        "makestr.x": ("makestr.x", "makeStr.x", "makeStr.py"),
    }
    missing = [name for name, names in programs.items() if not any(map(shutil.which, names))]
    if missing:
        return failure(
            f"{' and '.join(missing)} not on PATH",
            "conda install -c conda-forge enumlib, where antiferromagnetic orders are to come "
            "from it",
        )
    return ok("enum.x and makestr.x on PATH")


def materials_project() -> Finding:
    """See whether the Materials Project can be asked; the key is never shown nor sent."""
    from gan_htvs.materials_project import KEY_VARIABLE, api_key

    if find_spec("mp_api") is None:
        return failure("its client is not installed", "pip install 'gan-htvs[mp]'")
    if not api_key():
        return failure(
            f"{KEY_VARIABLE} is not set",
            f"export {KEY_VARIABLE} with your key from materialsproject.org/api",
        )
    return ok(f"a key is set, mp-api {version('mp-api')}; not tried")


def threads(n_cores: int, setting: str | None, *, runs_vasp: bool) -> Finding:
    """Judge ``OMP_NUM_THREADS``: workers of ``gan-htvs run`` set it, batch scripts must."""
    found = f"{n_cores} cores, OMP_NUM_THREADS {'not set' if setting is None else setting}"
    if runs_vasp and setting is None and n_cores > 1:
        return warning(
            f"{found}: every MPI rank of a threaded VASP starts {n_cores} threads",
            "export OMP_NUM_THREADS=1 in the batch script",
        )
    return ok(f"{found}; workers on this machine get one thread each")
