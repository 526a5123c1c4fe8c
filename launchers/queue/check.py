"""Examine what `gan-htvs queue init` wrote and people have edited since."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from functools import partial
from typing import TYPE_CHECKING, Any

from flows.routing import categories_of
from gan_htvs import __version__
from gan_htvs.errors import UserError
from gan_htvs.routing import Category
from gan_htvs.settings import read_mapping
from launchers.doctor.check import Examination, Finding, failure, ok, warning
from launchers.doctor.database import DatabaseSession
from launchers.launchpad_file import LaunchpadFile
from launchers.queue.category import (
    BASH,
    Limit,
    batch_job,
    last_line,
    margin,
    queue,
    worker,
    written_by_init,
)
from launchers.queue.render import ENVIRONMENT, FIREWORKS, QADAPTER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gan_htvs.campaign import Campaign
    from launchers.doctor.check import Check

PATIENT_SECONDS = 90.0
"""For a shell that loads modules and a Python that imports libraries from a shared disk."""

INHERITED = ("HOME", "USER", "LOGNAME", "LANG")
"""All that a batch job is sure to have of the environment that it was submitted from."""


def examine(
    folder: Path,
    campaign: Campaign | None = None,
    *,
    watch: Callable[[str], None] = lambda _: None,
) -> list[Check]:
    """Examine every file of a folder, the database and the batch system.

    Parameters
    ----------
    folder
        Written by ``gan-htvs queue init``.
    campaign
        What it needs must be there; None: what is there is examined.
    watch
        Told the name of each check before it begins.

    Raises
    ------
    UserError
        If there is nothing to examine.
    """
    there = [category for category in Category if (folder / category).is_dir()]
    if not there:
        raise UserError(
            f"{folder}: no folder of a category in it; `gan-htvs queue init {folder}` writes them."
        )
    checks = []
    with (
        redirect_stdout(sys.stderr),  # FireWorks talks, and --json owns stdout
        DatabaseSession(_launchpad_file(folder)) as session,
    ):
        for examination in _examinations(folder, there, campaign, session):
            watch(examination.name)
            checks.append(examination.run())
    return checks


def _examinations(
    folder: Path, there: list[Category], campaign: Campaign | None, session: DatabaseSession
) -> Iterator[Examination]:
    launchpad = session.launchpad_file
    yield Examination(
        "environment",
        partial(environment, folder, launchpad),
        longest_seconds=PATIENT_SECONDS,
    )
    yield Examination("launchpad file", session.file)
    yield Examination("database", session.server, longest_seconds=PATIENT_SECONDS)
    yield Examination("reach of the database", partial(reach, launchpad))
    if campaign is not None:
        yield Examination("campaign", partial(session.campaign, campaign.name))
    longest = {} if campaign is None else longest_calculations(campaign)
    needed = there if campaign is None else categories_of(campaign)
    for category in Category:
        if category in needed:
            yield from _of_category(folder / category, category, longest.get(category), launchpad)


def _of_category(
    folder: Path, category: Category, longest: Limit | None, launchpad_file: Path
) -> Iterator[Examination]:
    path = folder / QADAPTER
    yield Examination(f"{category}: workers", partial(worker, folder.parent, category))
    yield Examination(f"{category}: batch jobs", partial(batch_job, path, launchpad_file))
    if longest is not None:
        yield Examination(f"{category}: margin", partial(margin, path, longest))
    yield Examination(f"{category}: queue", partial(queue, path), longest_seconds=PATIENT_SECONDS)


def longest_calculations(campaign: Campaign) -> dict[Category, Limit]:
    """Find for each category how long its longest calculation may take.

    An interrupted training goes on where it was, and a potential takes minutes.
    """
    routing, engines = campaign.routing, campaign.engines
    vasp = Limit("engines.vasp.max_seconds", engines.vasp.max_seconds)
    limits = {}
    if engines.band_gap.name == "gpaw":
        limits[routing.hybrid] = Limit("engines.band_gap.max_seconds", engines.band_gap.max_seconds)
    elif engines.band_gap.name == "vasp":
        limits[routing.hybrid] = vasp
    if engines.energy.name == "vasp":
        limits[routing.dft] = vasp
    return limits


def _launchpad_file(folder: Path) -> Path:
    settings = read_mapping(folder / FIREWORKS, written_by_init(folder))
    return folder / str(settings.get("LAUNCHPAD_LOC") or "my_launchpad.yaml")


def environment(folder: Path, launchpad_file: Path) -> Finding:
    """Source the environment script as a batch job does, and see what a worker finds."""
    path = folder / ENVIRONMENT
    if not path.is_file():
        return failure(f"{path}: not found", written_by_init(folder))
    program = 'source "$1" && exec python -m launchers.queue.probe'
    # Not in the folder itself, whose FW_config.yaml FireWorks would find without being told.
    with tempfile.TemporaryDirectory() as launch_dir:
        shell = subprocess.run(  # noqa: S603
            [BASH, "-l", "-c", program, "bash", path],
            env={name: os.environ[name] for name in INHERITED if name in os.environ},
            capture_output=True,
            text=True,
            check=False,
            cwd=launch_dir,
            stdin=subprocess.DEVNULL,
            timeout=PATIENT_SECONDS,
        )
    if shell.returncode:
        return failure(
            f"{path}: no worker can start after it: {last_line(shell.stderr)}",
            "correct what is named, or the script: its modules, and the Python in its PATH",
        )
    return _judged(json.loads(last_line(shell.stdout)), path, launchpad_file)


def _judged(found: dict[str, Any], path: Path, launchpad_file: Path) -> Finding:
    if found["version"] != __version__:
        return warning(
            f"workers run gan-htvs {found['version']} from {found['python']}, not {__version__}",
            f"install the same version there, or correct PATH in {path}",
        )
    if found["outputs"] != str(launchpad_file):
        return failure(
            f"jobflow keeps outputs in {found['outputs']}, not in the database of {launchpad_file}",
            f"JOBFLOW_CONFIG_FILE in {path}",
        )
    if found["launchpad"] != str(launchpad_file):
        return warning(
            f"FireWorks reads another FW_config.yaml before that of {path.parent}: it looks in "
            "the working directory and in ~/.fireworks first",
            "delete that file, or put the settings of this one into it",
        )
    return ok(
        f"gan-htvs {found['version']} from {found['python']}; a run counts as lost after "
        f"{found['expiration'] / 60:g} min without a ping"
    )


def reach(launchpad_file: Path) -> Finding:
    """See whether other nodes could reach the database."""
    settings = LaunchpadFile.read(launchpad_file)
    if settings.is_local:
        return warning(
            f"{settings.address} is this machine: workers on other nodes find nothing there",
            f"the name of the database's machine as `host` in {launchpad_file}",
        )
    return ok("other nodes may reach it")
