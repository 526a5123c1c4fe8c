"""Checks of what `gan-htvs queue init` wrote and users have edited since."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flows.routing import categories_of
from gan_htvs import __version__
from gan_htvs.campaign.routing import Category
from gan_htvs.core.errors import UserError
from gan_htvs.core.settings import read_mapping
from gan_htvs.core.text import one_line
from launchers.launchpad.batch_system import BatchSystem, run_program
from launchers.launchpad.launchpad_file import LaunchpadFile
from launchers.monitor.doctor import database_checks as database
from launchers.monitor.doctor.database_checks import DatabaseSession
from launchers.monitor.findings import (
    LONG_TIMEOUT_SECONDS,
    Check,
    Finding,
    failure,
    ok,
    run_checks,
    skipped,
    warning,
)
from launchers.queue.adapter import (
    init_hint,
    launch_options,
    read_adapter,
    read_fworker,
    system_of,
    time_limits,
)
from launchers.queue.dialects import DIALECTS
from launchers.queue.profiles import clock_of
from launchers.queue.render import ENVIRONMENT, FIREWORKS, FWORKER, QADAPTER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter

    from gan_htvs.campaign.model import Campaign

BASH = "/bin/bash"
"""The shell of batch scripts."""

INHERITED = ("HOME", "USER", "LOGNAME", "LANG")
"""The only variables that a batch job surely inherits from the shell that submitted it."""


class Limit(NamedTuple):
    """The longest that a calculation may take."""

    setting: str
    seconds: float | None


def check_folder(folder: Path, campaign: Campaign | None = None) -> list[Finding]:
    """Check every file of a folder, the database and the batch system.

    Parameters
    ----------
    folder
        Written by ``gan-htvs queue init``.
    campaign
        The categories that it needs must be in the folder; None: those in the folder are checked.

    Raises
    ------
    UserError
        If there is nothing to check.
    """
    present = {category for category in Category if (folder / category).is_dir()}
    if not present:
        raise UserError(
            f"{folder}: no folder of a category in it; `gan-htvs queue init {folder}` writes them."
        )
    settings = read_mapping(folder / FIREWORKS, init_hint(folder))
    launchpad_file = folder / str(settings.get("LAUNCHPAD_LOC") or "my_launchpad.yaml")
    limits = {} if campaign is None else longest_calculations(campaign)
    needed = present if campaign is None else categories_of(campaign)
    patient = partial(Check, seconds=LONG_TIMEOUT_SECONDS)

    def checks() -> Iterator[Check]:
        yield patient("environment", partial(environment, folder, launchpad_file))
        yield patient("database", partial(session.reach, launchpad_file))
        yield Check("reach of the database", partial(reach, launchpad_file))
        if campaign is not None and session.databases is not None:
            yield Check("campaign", partial(database.campaign, session.databases, campaign.name))
        for category in sorted(needed, key=list(Category).index):
            path, limit = folder / category / QADAPTER, limits.get(category)
            yield Check(f"{category}: workers", partial(worker, folder, category))
            yield Check(f"{category}: batch jobs", partial(batch_job, path, launchpad_file, limit))
            yield patient(f"{category}: queue", partial(queue, path))

    with DatabaseSession() as session:
        return run_checks(checks())


def longest_calculations(campaign: Campaign) -> dict[Category, Limit]:
    """Return for each category how long its longest calculation may take.

    Interrupted training resumes, and a potential takes minutes.
    """
    routing, engines = campaign.routing, campaign.engines
    vasp = Limit("engines.vasp.max_seconds", engines.vasp.max_seconds)
    gpaw = Limit("engines.band_gap.max_seconds", engines.band_gap.max_seconds)
    limits = {}
    if engines.band_gap.name != "none":
        limits[routing.hybrid] = vasp if engines.band_gap.name == "vasp" else gpaw
    if engines.energy.name == "vasp":
        limits[routing.dft] = vasp
    return limits


def environment(folder: Path, launchpad_file: Path) -> Finding:
    """Source the environment script as a batch job does, and compare what a worker finds."""
    path = folder / ENVIRONMENT
    program = 'source "$1" && exec python -m launchers.queue.probe'
    # Not in the folder itself, whose FW_config.yaml FireWorks would find anyway.
    with tempfile.TemporaryDirectory() as launch_dir:
        shell = subprocess.run(  # noqa: S603
            [BASH, "-l", "-c", program, "bash", path],
            env={name: os.environ[name] for name in INHERITED if name in os.environ},
            capture_output=True,
            text=True,
            check=False,
            cwd=launch_dir,
            stdin=subprocess.DEVNULL,
            timeout=LONG_TIMEOUT_SECONDS,
        )
    if shell.returncode:
        return failure(
            f"{path}: no worker can start after it: {_last_line(shell.stderr)}",
            "correct what is named, or the script: its modules, and the Python in its PATH",
        )
    found = json.loads(_last_line(shell.stdout))
    expected = {"version": __version__, "launchpad": str(launchpad_file)}
    expected["outputs"] = expected["launchpad"]
    wrong = [
        f"{key} {found[key]} (not {value})"
        for key, value in expected.items()
        if found[key] != value
    ]
    if wrong:
        # Outputs in another place are lost.
        report = failure if found["outputs"] != expected["outputs"] else warning
        return report(
            f"{path}: workers find {', '.join(wrong)}",
            "correct PATH (version), JOBFLOW_CONFIG_FILE (outputs) or FW_CONFIG_FILE (launchpad) "
            "there; a FW_config.yaml in ~/.fireworks takes precedence over the last",
        )
    return ok(
        f"gan-htvs {found['version']} from {found['python']}; a run counts as lost after "
        f"{found['expiration'] / 60:g} min without a ping"
    )


def reach(launchpad_file: Path) -> Finding:
    """Check whether other nodes could reach the database."""
    settings = LaunchpadFile.read(launchpad_file)
    if settings.is_local:
        return warning(
            f"{settings.address} is this machine: workers on other nodes cannot reach it",
            f"the name of the database's machine as `host` in {launchpad_file}",
        )
    return ok("other nodes may reach it")


def worker(folder: Path, category: Category) -> Finding:
    """Check that the FWorker file of a category takes its jobs."""
    path = folder / category / FWORKER
    taken = read_fworker(path).category
    names = [taken] if isinstance(taken, str) else taken
    if category not in names:
        return failure(
            f"{path}: takes {taken!r}, and jobs of {str(category)!r} would wait forever",
            f"category: {category}",
        )
    return ok(f"take {', '.join(names)}")


def batch_job(path: Path, launchpad_file: Path, limit: Limit | None = None) -> Finding:
    """Have FireWorks write the batch script, and check it and the command that starts workers.

    Parameters
    ----------
    path
        A queue adapter.
    launchpad_file
        The file that workers must use.
    limit
        The longest calculation, which must end before the batch job does.
    """
    adapter = read_adapter(path)
    with (
        warnings.catch_warnings(action="error"),
        tempfile.TemporaryDirectory() as launch_dir,
    ):
        try:
            script = adapter.get_script_str(launch_dir)
        except (Warning, OSError) as error:
            return failure(f"{path}: {one_line(error)}", "correct or delete the key")
    shell = subprocess.run(  # noqa: S603
        [BASH, "-n"], input=script, capture_output=True, text=True, check=False
    )
    if shell.returncode:
        return failure(
            f"{path}: {BASH} cannot parse the script: {_last_line(shell.stderr)}",
            "correct pre_rocket, rocket_launch and post_rocket",
        )
    return _launch(path, adapter, launchpad_file, limit)


def _launch(
    path: Path, adapter: CommonAdapter, launchpad_file: Path, limit: Limit | None
) -> Finding:
    """Check the command that starts the workers of a batch job."""
    words = shlex.split(adapter.get("rocket_launch") or "")
    if "rlaunch" not in [Path(word).name for word in words[:4]]:
        return failure(f"{path}: rocket_launch calls no rlaunch", init_hint(path.parents[1]))
    if "/" in words[0] and shutil.which(words[0]) is None:
        return failure(f"{path}: {words[0]} cannot be run", "correct rocket_launch")
    options = launch_options(adapter)
    for option, expected in (("-l", launchpad_file), ("-w", path.with_name(FWORKER))):
        value = options.get(option, "nothing")
        if (path.parent / value).resolve() != expected.resolve():
            return failure(
                f"{path}: rocket_launch has {option} {value}, not {expected}",
                f"{option} {shlex.quote(str(expected))}",
            )
    walltime, last_start = time_limits(path, adapter)
    if not 0 < last_start < walltime:
        return failure(
            f"{path}: workers start jobs up to the walltime of {clock_of(walltime)}, which ends "
            "them unfinished",
            "rocket_launch with --timeout, in seconds, a whole job shorter than the walltime",
        )
    left = walltime - last_start
    what = (
        f"workers: {options.get('multi', '1')}, {clock_of(walltime)}; none starts a job in the "
        f"last {clock_of(left)}"
    )
    if limit is not None and (limit.seconds is None or limit.seconds > left):
        longest = "not set" if limit.seconds is None else f"{limit.seconds:g} s"
        return warning(
            f"{what}, and {limit.setting} is {longest}",
            f"set {limit.setting} in campaign.yaml to less than {left}, or lower --timeout in "
            f"{path}",
        )
    return ok(what)


def queue(path: Path) -> Finding:
    """Check that the batch system knows the queue that an adapter names."""
    adapter = read_adapter(path)
    system = system_of(adapter)
    if system is None:
        return skipped(f"{adapter.q_type} is not one of {', '.join(BatchSystem)}")
    named = []
    for names in DIALECTS[system].names:
        value = str(adapter.get(names.key) or "")
        named.append(f"{names.what} {value or 'of the batch system by default'}")
        if not value:
            continue
        done = run_program(names.command, LONG_TIMEOUT_SECONDS)
        if done is None or done.returncode:
            reason = _last_line(done.stderr) if done else "is not on PATH, or does not answer"
            return warning(
                f"{names.what} {value} cannot be checked: {shlex.join(names.command)}: {reason}",
                "run this where `qlaunch` will run: on a login node, with the batch system's "
                "module",
            )
        known = re.findall(names.pattern, done.stdout, re.MULTILINE)
        for name in value.split(maxsplit=1)[0].split(","):
            if name.partition("@")[0] not in known:
                return failure(
                    f"{path}: there is no {names.what} {name!r}; there are {', '.join(known)}",
                    f"correct `{names.key}` in the file",
                )
    return ok("; ".join(named))


def _last_line(text: str) -> str:
    """Return the last line that a program printed, which usually says what is wrong."""
    return (text.strip().splitlines() or ["no message"])[-1]
