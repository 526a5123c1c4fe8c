"""Python packages, weights of potentials, and the programs that come with packages."""

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
SLOW_IMPORTS = 30.0
"""Every worker and every job imports these packages, s."""


def libraries() -> Finding:
    """Compare what is installed with the requirements in pyproject.toml.

    Versions that are known not to work are excluded there.
    """
    return compare_versions(map(Requirement, requires("gan-htvs") or ()))


def compare_versions(declared: Iterable[Requirement]) -> Finding:
    """Compare what is installed with requirements.

    A package of an extra may be missing, but must not have a wrong version.
    """
    installed = []
    wrong: dict[Requirement, str] = {}
    report = warning
    for requirement in declared:
        is_optional = requirement.marker is not None and not requirement.marker.evaluate()
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            found = "missing"
        if found == "missing" and is_optional:
            continue
        if found == "missing" or not requirement.specifier.contains(found, prereleases=True):
            wrong[requirement] = found
            report = report if is_optional else failure
        elif not is_optional:
            installed.append(f"{requirement.name} {found}")
    if not wrong:
        return ok(", ".join(sorted(installed)))
    return report(
        "; ".join(f"{r.name} is {is_}, needed is {r.specifier}" for r, is_ in wrong.items()),
        "pip install " + " ".join(f"'{r.name}{r.specifier}'" for r in wrong),
    )


def imports() -> Finding:
    """Import what every job imports, which reveals broken installations and slow disks.

    Raises
    ------
    UserError
        If a module, or a settings file that it reads, is broken.
    """
    start = time.perf_counter()
    for name in IMPORTED:
        try:
            import_module(name)
        except UserError:  # names the file and the fix
            raise
        except Exception as error:
            raise UserError(
                f"`import {name}` fails: {type(error).__name__}: {one_line(error)}; correct the "
                "settings file that it names, or set up the virtual environment again."
            ) from error
    seconds = time.perf_counter() - start
    what = f"{seconds:.1f} s for {', '.join(IMPORTED)}"
    if seconds > SLOW_IMPORTS:
        return warning(what, "put the virtual environment on a faster file system")
    return ok(what)


def potential(name: str, arguments: dict[str, Any]) -> Finding:
    """Verify the weights that come with a package; load a force field of atomate2.

    Only the package of such a force field knows where its weights are.
    """
    if name not in SHIPPED:
        return ok(f"loads as {type(calculator_of(name, **arguments)).__name__}")
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
    return ok(f"{path.name}, {path.stat().st_size / 1e6:.1f} MB, checksums are right")


def gpaw() -> Finding:
    """Check whether GPAW works here."""
    from flows.engines.gpaw import availability

    if (reason := availability()) is None:
        return ok(version("gpaw"))
    what, _, fix = reason.partition(": ")
    return failure(what, fix)


def enumlib() -> Finding:
    """Find the programs behind pymatgen's enumeration of magnetic orderings."""
    programs = (("enum.x", "multienum.x"), ("makestr.x", "makeStr.x", "makeStr.py"))
    missing = [names[0] for names in programs if not any(map(shutil.which, names))]
    if missing:
        return failure(
            f"{' and '.join(missing)} not on PATH",
            "conda install -c conda-forge enumlib, for antiferromagnetic orderings from enumlib",
        )
    return ok("enum.x and makestr.x on PATH")


def materials_project() -> Finding:
    """Check for the client and a key of the Materials Project; the key is not shown nor sent."""
    from gan_htvs.core.mp_client import KEY_VARIABLE, api_key

    if find_spec("mp_api") is None:
        return failure("its client is not installed", "pip install 'gan-htvs[mp]'")
    if not api_key():
        return failure(
            f"{KEY_VARIABLE} is not set",
            f"export {KEY_VARIABLE} with your key from materialsproject.org/api",
        )
    return ok(f"a key is set, mp-api {version('mp-api')}; not tried")


def threads(n_cores: int, setting: str | None, *, runs_vasp: bool) -> Finding:
    """Check ``OMP_NUM_THREADS``: workers of ``gan-htvs run`` set it, batch scripts must."""
    what = f"{n_cores} cores, OMP_NUM_THREADS {setting or 'not set'}"
    if runs_vasp and setting is None and n_cores > 1:
        return warning(
            f"{what}: every MPI rank of a threaded VASP starts {n_cores} threads",
            "export OMP_NUM_THREADS=1 in the batch script",
        )
    return ok(f"{what}; workers on this machine get one thread each")
