"""Check the files that `gan-htvs queue init` wrote and users may have edited."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import warnings
from functools import partial
from itertools import pairwise
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
from launchers.queue.adapter import init_hint, read_adapter, read_fworker, system_of
from launchers.queue.profiles import DIALECTS, clock_of, seconds_of
from launchers.queue.render import ENVIRONMENT, FIREWORKS, FWORKER, QADAPTER

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter

    from gan_htvs.campaign.model import Campaign

BASH = "/bin/bash"
"""The shell of batch scripts."""

INHERITED = ("HOME", "USER", "LOGNAME", "LANG")
"""The only variables that every batch job inherits from the submitting shell."""


class Limit(NamedTuple):
    """The time limit of a calculation, s; None: no limit."""

    setting: str
    seconds: float | None


def check_folder(folder: Path, campaign: Campaign | None = None) -> list[Finding]:
    """Check every file of a folder, the database and the batch system.

    Parameters
    ----------
    folder
        Folder written by ``gan-htvs queue init``.
    campaign
        Campaign whose categories are checked, present or not; None: all categories in the folder.

    Raises
    ------
    UserError
        If the folder contains no category.
    """
    present = {category for category in Category if (folder / category).is_dir()}
    if not present:
        raise UserError(
            f"{folder}: contains no category folder ({', '.join(Category)}); write them with "
            f"`gan-htvs queue init {folder}`."
        )
    settings = read_mapping(folder / FIREWORKS, init_hint(folder))
    launchpad_file = folder / str(settings.get("LAUNCHPAD_LOC") or "my_launchpad.yaml")
    limits = {} if campaign is None else longest_calculations(campaign)
    needed = present if campaign is None else categories_of(campaign)
    patient = partial(Check, seconds=LONG_TIMEOUT_SECONDS)

    def checks() -> Iterator[Check]:
        yield patient("environment", partial(environment, folder, launchpad_file))
        yield patient("database", partial(session.reach, launchpad_file))
        yield Check("database address", partial(address, launchpad_file))
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
    """Return the time limit of the longest calculation of each category.

    Only VASP and GPAW calculations count: interrupted training resumes, and relaxations with a
    potential take minutes.
    """
    routing, engines = campaign.routing, campaign.engines
    vasp = Limit("engines.vasp.max_seconds", engines.vasp.max_seconds)
    gpaw = Limit("engines.band_gap.max_seconds", engines.band_gap.max_seconds)
    limits = {}
    if campaign.computes_gaps:
        limits[routing.hybrid] = vasp if engines.band_gap.name == "vasp" else gpaw
    if engines.energy.name == "vasp":
        limits[routing.dft] = vasp
    return limits


def environment(folder: Path, launchpad_file: Path) -> Finding:
    """Source the environment script as a batch job does, and check the settings of a worker."""
    path = folder / ENVIRONMENT
    # FireWorks also reads FW_config.yaml in the working directory, so run in another folder.
    program = 'cd / && source "$1" && exec python -m launchers.queue.probe'
    inherited = (f"{name}={os.environ[name]}" for name in INHERITED if name in os.environ)
    shell = (BASH, "-l", "-c", program, "bash", str(path))
    done = run_program(("/usr/bin/env", "-i", *inherited, *shell), LONG_TIMEOUT_SECONDS)
    if done is None or done.returncode:
        return failure(
            f"{path}: a worker cannot start in this environment: {_reason(done)}",
            "correct the reported problem, or the modules and PATH in the script",
        )
    actual = json.loads(done.stdout.splitlines()[-1])
    expected = {"version": __version__} | dict.fromkeys(
        ("launchpad", "outputs"), str(launchpad_file)
    )
    wrong = [
        f"{key} {actual[key]} (expected {value})"
        for key, value in expected.items()
        if actual[key] != value
    ]
    if wrong:
        # Outputs stored elsewhere are lost.
        report = failure if actual["outputs"] != expected["outputs"] else warning
        return report(
            f"{path}: workers use {', '.join(wrong)}",
            "in this file, correct PATH (version), JOBFLOW_CONFIG_FILE (outputs) or FW_CONFIG_FILE "
            "(launchpad); ~/.fireworks/FW_config.yaml takes precedence over FW_CONFIG_FILE",
        )
    return ok(
        f"gan-htvs {actual['version']} from {actual['python']}; a run counts as lost after "
        f"{actual['expiration'] / 60:g} min without a ping"
    )


def address(launchpad_file: Path) -> Finding:
    """Check that other nodes can reach the host of the database."""
    settings = LaunchpadFile.read(launchpad_file)
    if settings.is_local:
        return warning(
            f"{settings.address} is this machine: workers on other nodes cannot reach it",
            f"set `host` in {launchpad_file} to the name of the database's machine",
        )
    return ok("not limited to this machine")


def worker(folder: Path, category: Category) -> Finding:
    """Check that the FWorker file of a category accepts its jobs."""
    path = folder / category / FWORKER
    accepted = read_fworker(path).category
    names = [accepted] if isinstance(accepted, str) else accepted
    if category not in names:
        return failure(
            f"{path}: accepts category {accepted!r}; jobs of category {str(category)!r} would "
            "never start",
            f"set category: {category}",
        )
    return ok(f"accept {', '.join(names)}")


def batch_job(path: Path, launchpad_file: Path, limit: Limit | None = None) -> Finding:
    """Check the batch script that FireWorks writes, and the command that starts workers.

    Parameters
    ----------
    path
        Queue adapter.
    launchpad_file
        Launchpad file that workers must use.
    limit
        Time limit of the longest calculation, which must fit into the margin before the walltime.
    """
    adapter = read_adapter(path)
    try:
        with warnings.catch_warnings(action="error"):
            script = adapter.get_script_str("/")
    except (Warning, OSError) as error:
        return failure(f"{path}: {one_line(error)}", "correct or delete the key")
    done = run_program((BASH, "-n", "-c", script))
    if done is None or done.returncode:
        return failure(
            f"{path}: {BASH} cannot parse the script: {_reason(done)}",
            "correct pre_rocket, rocket_launch and post_rocket",
        )
    return _launch(path, adapter, launchpad_file, limit)


def _launch(
    path: Path, adapter: CommonAdapter, launchpad_file: Path, limit: Limit | None
) -> Finding:
    """Check the command that starts the workers of a batch job."""
    words = shlex.split(adapter.get("rocket_launch") or "")
    if "rlaunch" not in [Path(word).name for word in words[:4]]:
        return failure(f"{path}: rocket_launch does not call rlaunch", init_hint(path.parents[1]))
    if "/" in words[0] and shutil.which(words[0]) is None:
        return failure(f"{path}: {words[0]} cannot be run", "correct rocket_launch")
    options = dict(pairwise(words))
    for option, expected in (("-l", launchpad_file), ("-w", path.with_name(FWORKER))):
        value = options.get(option, "nothing")
        if (path.parent / value).resolve() != expected.resolve():
            return failure(
                f"{path}: rocket_launch has {option} {value}, not {expected}",
                f"set {option} {shlex.quote(str(expected))}",
            )
    try:
        walltime = seconds_of(str(adapter.get("walltime")), system_of(adapter))
        last_start = int(options.get("--timeout", 0))
    except ValueError as error:
        raise UserError(f"{path}: walltime, or --timeout in rocket_launch: {error}.") from error
    if not 0 < last_start < walltime:
        return failure(
            f"{path}: workers start jobs up to the walltime of {clock_of(walltime)}, which kills "
            "unfinished jobs",
            "add --timeout SECONDS to rocket_launch, shorter than the walltime by at least one job",
        )
    margin = walltime - last_start
    what = (
        f"workers: {options.get('multi', '1')}, {clock_of(walltime)}; no job starts in the "
        f"last {clock_of(margin)}"
    )
    if limit is not None and (limit.seconds is None or limit.seconds > margin):
        longest = "not set" if limit.seconds is None else f"{limit.seconds:g} s"
        return warning(
            f"{what}, but {limit.setting} is {longest}",
            f"set {limit.setting} in campaign.yaml to less than {margin}, or lower --timeout in "
            f"{path}",
        )
    return ok(what)


def queue(path: Path) -> Finding:
    """Check that the queue of an adapter exists in the batch system."""
    adapter = read_adapter(path)
    system = system_of(adapter)
    if system is None:
        return skipped(f"{adapter.q_type} is not one of {', '.join(BatchSystem)}")
    checked = []
    for names in DIALECTS[system].names:
        value = str(adapter.get(names.key) or "")
        checked.append(f"{names.what} {value or '(default of the batch system)'}")
        if not value:
            continue
        done = run_program(names.command, LONG_TIMEOUT_SECONDS)
        if done is None or done.returncode:
            command = shlex.join(names.command)
            return warning(
                f"{names.what} {value} cannot be checked: {command}: {_reason(done)}",
                "repeat this check where `qlaunch` will run: on a login node, with the module of "
                "the batch system loaded",
            )
        known = re.findall(names.pattern, done.stdout, re.MULTILINE)
        for name in value.split(maxsplit=1)[0].split(","):
            if name.partition("@")[0] not in known:
                return failure(
                    f"{path}: {names.what} {name!r} does not exist; choose from {', '.join(known)}",
                    f"correct `{names.key}` in this file",
                )
    return ok("; ".join(checked))


def _reason(done: subprocess.CompletedProcess[str] | None) -> str:
    """Return why a program failed: the last line of its standard error, if it ran."""
    if done is None:
        return "not on PATH, or does not answer"
    return (done.stderr.strip().splitlines() or ["no message"])[-1]
