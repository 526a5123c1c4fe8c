"""Checks of Python packages, weights of potentials and programs of packages."""

from __future__ import annotations

import shutil
import time
import zipfile
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from gan_htvs.core.errors import UserError
from gan_htvs.core.text import one_line
from gan_htvs.potentials.calculators import SHIPPED, calculator_of, weights_file
from launchers.monitor.findings import Finding, failure, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterable

IMPORTED = ("torch", "pymatgen.core", "jobflow", "fireworks", "atomate2.vasp.sets.core")
SERVER_SECONDS = 8.0
"""Time limit for the answer of a server."""

SLOW_IMPORTS = 30.0
"""Limit for a warning, s; every worker and every job imports these packages."""


def libraries() -> Finding:
    """Compare the installed packages with the requirements in pyproject.toml.

    The requirements exclude versions that are known not to work.
    """
    return compare_versions(map(Requirement, requires("gan-htvs") or ()))


def compare_versions(declared: Iterable[Requirement]) -> Finding:
    """Compare the installed packages with requirements.

    A package of an extra may be missing; a wrong version of it is a warning.
    """
    installed = []
    unmet: dict[Requirement, str] = {}
    report = warning
    for requirement in declared:
        is_optional = requirement.marker is not None and not requirement.marker.evaluate()
        try:
            found = version(requirement.name)
            is_met = requirement.specifier.contains(found, prereleases=True)
        except PackageNotFoundError:
            found, is_met = "missing", is_optional
        if not is_met:
            unmet[requirement] = found
            report = report if is_optional else failure
        elif not is_optional:
            installed.append(f"{requirement.name} {found}")
    if not unmet:
        return ok(", ".join(sorted(installed)))
    return report(
        "; ".join(f"{r.name} is {found}, required is {r.specifier}" for r, found in unmet.items()),
        "pip install " + " ".join(f"'{r.name}{r.specifier}'" for r in unmet),
    )


def imports() -> Finding:
    """Import the packages of every job to find broken installations and slow disks.

    Raises
    ------
    UserError
        If the settings file of a package is invalid.
    """
    start = time.perf_counter()
    for name in IMPORTED:
        try:
            import_module(name)
        except UserError:  # includes the file and the fix
            raise
        except Exception as error:  # noqa: BLE001 - a settings file may cause any exception
            return failure(
                f"`import {name}` fails: {type(error).__name__}: {one_line(error)}",
                "correct the settings file named above, or reinstall the virtual environment",
            )
    seconds = time.perf_counter() - start
    what = f"{seconds:.1f} s for {', '.join(IMPORTED)}"
    if seconds > SLOW_IMPORTS:
        return warning(what, "move the virtual environment to a faster file system")
    return ok(what)


def potential(name: str, arguments: dict[str, Any]) -> Finding:
    """Check the weights of a potential that are part of a package, or load a force field.

    A force field of atomate2 must be loaded because its package locates the weights.
    """
    if name not in SHIPPED:
        return ok(f"loads as {type(calculator_of(name, **arguments)).__name__}")
    path = weights_file(name)
    try:
        with zipfile.ZipFile(path) as archive:  # PyTorch's format has a checksum of each tensor
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        damaged = str(error)
    if damaged is not None:
        package = path.parents[2].name
        return failure(
            f"{path} is damaged: {damaged}", f"pip install --force-reinstall --no-deps {package}"
        )
    return ok(f"{path.name}, {path.stat().st_size / 1e6:.1f} MB, checksums match")


def gpaw() -> Finding:
    """Check that GPAW is installed and works."""
    from flows.engines.gpaw import availability

    if (reason := availability()) is None:
        return ok(version("gpaw"))
    what, _, fix = reason.partition(": ")
    return failure(what, fix)


def enumlib() -> Finding:
    """Check for the programs with which pymatgen enumerates magnetic orderings."""
    programs = (("enum.x", "multienum.x"), ("makestr.x", "makeStr.x", "makeStr.py"))
    missing = [names[0] for names in programs if not any(map(shutil.which, names))]
    if missing:
        return failure(
            f"{' and '.join(missing)} not on PATH",
            "conda install -c conda-forge enumlib",
        )
    return ok("enum.x and makestr.x on PATH")


def materials_project() -> Finding:
    """Check for the client and an API key of the Materials Project without using the key."""
    from gan_htvs.core.mp_client import KEY_VARIABLE, api_key

    if find_spec("mp_api") is None:
        return failure("mp-api is not installed", "pip install 'gan-htvs[mp]'")
    if not api_key():
        return failure(
            f"{KEY_VARIABLE} is not set",
            f"export {KEY_VARIABLE}=KEY, with a key from materialsproject.org/api",
        )
    return ok(f"a key is set, mp-api {version('mp-api')}; key not tested")


def optimade(provider: str | None) -> Finding:
    """Check for the OPTIMADE client, and whether a server answers.

    Parameters
    ----------
    provider
        Name or base URL of the server; None: only the client is checked.
    """
    if find_spec("optimade") is None:
        return failure("optimade is not installed", "pip install 'optimade[http-client]'")
    client = f"client {version('optimade')}"
    if provider is None:
        return ok(f"{client}; no server is needed")
    import requests

    from gan_htvs.thermodynamics.reference_sources.optimade import provider_of

    url = provider_of(provider).base_url
    try:
        requests.get(f"{url}/v1/info", timeout=SERVER_SECONDS).raise_for_status()
    except requests.RequestException as error:
        return failure(
            f"{url} does not answer ({one_line(error):.100})",
            "check the network, or run `gan-htvs references` on a machine with network access and "
            "copy its file",
        )
    return ok(f"{client}; {url} answers")


def threads(n_cores: int, setting: str | None, *, runs_vasp: bool) -> Finding:
    """Check ``OMP_NUM_THREADS``; ``gan-htvs run`` sets it, batch scripts have to."""
    what = f"{n_cores} cores, OMP_NUM_THREADS {setting or 'not set'}"
    if runs_vasp and setting is None and n_cores > 1:
        return warning(
            f"{what}: every MPI rank of a threaded VASP starts {n_cores} threads",
            "export OMP_NUM_THREADS=1 in the batch script",
        )
    return ok(f"{what}; workers on this machine get one thread each")
