"""Examine what `gan-htvs queue init` wrote and people have edited since."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import warnings
from contextlib import redirect_stdout
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from fireworks import FWorker
from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter

from flows.routing import categories_of
from gan_htvs import __version__
from gan_htvs.engines import VASP_ENGINES
from gan_htvs.errors import UserError
from gan_htvs.routing import Category
from launchers.batch import BatchSystem
from launchers.doctor.check import Examination, Finding, State, failure, ok, skipped, warning
from launchers.doctor.database import DatabaseSession
from launchers.doctor.machine import answer
from launchers.launchpad_file import LaunchpadFile
from launchers.queue.dialects import DIALECTS
from launchers.queue.profiles import clock_of, seconds_of
from launchers.queue.render import ENVIRONMENT, FIREWORKS, FWORKER, QADAPTER

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from gan_htvs.campaign import Campaign
    from launchers.doctor.check import Check
    from launchers.queue.dialects import Dialect, Names

BASH = "/bin/bash"
"""What batch scripts run in."""

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
    needed = there if campaign is None else sorted(categories_of(campaign))
    longest = {} if campaign is None else longest_calculations(campaign)
    checks = []
    with (
        redirect_stdout(sys.stderr),  # FireWorks talks, and --json owns stdout
        DatabaseSession(_launchpad_file(folder)) as session,
    ):
        for examination in _examinations(folder, needed, longest, session):
            watch(examination.name)
            checks.append(examination.run())
    return checks


def _examinations(
    folder: Path,
    categories: Collection[Category],
    longest: Mapping[Category, Limit],
    session: DatabaseSession,
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
    for category in categories:
        path = folder / category / QADAPTER
        yield Examination(f"{category}: workers", partial(worker, folder, category))
        yield Examination(f"{category}: batch jobs", partial(batch_job, path, launchpad))
        if category in longest:
            yield Examination(f"{category}: margin", partial(margin, path, longest[category]))
        yield Examination(
            f"{category}: queue", partial(queue, path), longest_seconds=PATIENT_SECONDS
        )


class Limit(NamedTuple):
    """The longest that a calculation may take."""

    setting: str
    seconds: float | None


def longest_calculations(campaign: Campaign) -> dict[Category, Limit]:
    """Find for each category how long its longest calculation may take.

    An interrupted training goes on where it was, and a potential takes minutes.
    """
    routing, engines = campaign.routing, campaign.engines
    vasp = Limit("engines.vasp.max_seconds", engines.vasp.max_seconds)
    limits = {}
    if engines.band_gap.name == "gpaw":
        limits[routing.hybrid] = Limit("engines.band_gap.max_seconds", engines.band_gap.max_seconds)
    elif engines.band_gap.name in VASP_ENGINES:
        limits[routing.hybrid] = vasp
    if engines.energy.name in VASP_ENGINES:
        limits[routing.dft] = vasp
    return limits


def _launchpad_file(folder: Path) -> Path:
    settings = _mapping_in(folder / FIREWORKS)
    return folder / str(settings.get("LAUNCHPAD_LOC") or "my_launchpad.yaml")


def _mapping_in(path: Path) -> dict[str, Any]:
    cure = f"`gan-htvs queue init {path.parent}` writes it"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: not found; {cure}.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read: {reason}.") from error
    if not isinstance(document, dict):
        raise UserError(f"{path}: no settings in it; {cure}, with --force.")
    return document


def worker(folder: Path, category: Category) -> Finding:
    """See that the FWorker file of a category takes its jobs."""
    path = folder / category / FWORKER
    if not path.is_file():
        return failure(
            f"{path}: not found, and a worker without one takes the jobs of every category",
            _written_by_init(folder),
        )
    try:
        taken = FWorker.from_file(str(path)).category
    except Exception as error:  # noqa: BLE001 - FireWorks has no type of its own for it
        return failure(f"{path}: no FWorker file: {error!r:.120}", _written_by_init(folder))
    if category not in ([taken] if isinstance(taken, str) else taken):
        return failure(
            f"{path}: takes {taken!r}, and jobs of {str(category)!r} would wait for ever",
            f"category: {category}",
        )
    return ok(f"take {taken if isinstance(taken, str) else ', '.join(taken)}")


def batch_job(path: Path, launchpad_file: Path) -> Finding:
    """Have FireWorks write the batch script, and read it as the shell will."""
    folder = path.parents[1]
    adapter = _adapter(path)
    with (
        warnings.catch_warnings(action="error"),
        tempfile.TemporaryDirectory() as launch_dir,
    ):
        try:
            script = adapter.get_script_str(launch_dir)
        except Warning as told:
            return failure(f"{path}: {str(told).splitlines()[0]}", "correct or delete the key")
        except OSError as error:
            return failure(
                f"{path}: {adapter.template_file}: {error.strerror}", _written_by_init(folder)
            )
    shell = subprocess.run(  # noqa: S603
        [BASH, "-n"], input=script, capture_output=True, text=True, check=False
    )
    if shell.returncode:
        return failure(
            f"{path}: {BASH} cannot read the script: {_last_line(shell.stderr)}",
            "correct pre_rocket, rocket_launch and post_rocket",
        )
    return _launched(path, adapter, launchpad_file)


def _launched(path: Path, adapter: CommonAdapter, launchpad_file: Path) -> Finding:
    """Judge the command that starts the workers."""
    words = shlex.split(adapter.get("rocket_launch") or "")
    if "rlaunch" not in {word.rpartition("/")[2] for word in words[:4]}:
        return failure(f"{path}: rocket_launch calls no rlaunch", _written_by_init(path.parents[1]))
    if "/" in words[0] and shutil.which(words[0]) is None:
        return failure(f"{path}: {words[0]} cannot be run", "correct rocket_launch")
    for option, expected in (("-l", launchpad_file), ("-w", path.with_name(FWORKER))):
        given = _value(words, option)
        if given is None or not expected.parent.joinpath(given).exists():
            return failure(
                f"{path}: rocket_launch has {option} {given or 'nothing'}, which is not there",
                f"{option} {shlex.quote(str(expected))}",
            )
        if expected.exists() and not expected.samefile(expected.parent / given):
            return failure(
                f"{path}: rocket_launch has {option} {given}, not {expected}",
                f"{option} {shlex.quote(str(expected))}",
            )
    return _bounded(path, adapter, words)


def _bounded(path: Path, adapter: CommonAdapter, words: list[str]) -> Finding:
    """See that no job is started that the batch system will end."""
    tasks = _value(words, "multi") or "1"
    workers = f"{tasks} worker{'' if tasks == '1' else 's'}"
    walltime, last = _times(path, adapter)
    if not 0 < last < walltime:
        return failure(
            f"{path}: workers start jobs up to the walltime of {clock_of(walltime)}, which ends "
            "them unfinished",
            "rocket_launch with --timeout, in seconds, a whole job shorter than the walltime",
        )
    return ok(
        f"{workers}, {clock_of(walltime)}; none starts a job in the last "
        f"{clock_of(walltime - last)}"
    )


def _times(path: Path, adapter: CommonAdapter) -> tuple[int, int]:
    """Read how long a batch job runs, and after how long its workers take no more jobs."""
    try:
        walltime = seconds_of(str(adapter.get("walltime")))
        return walltime, int(_value(shlex.split(adapter["rocket_launch"]), "--timeout") or 0)
    except ValueError as error:
        raise UserError(f"{path}: walltime or --timeout of rlaunch: {error}.") from error


def margin(path: Path, limit: Limit) -> Finding:
    """See that the longest calculation ends before its batch job does."""
    walltime, last = _times(path, _adapter(path))
    left = walltime - last
    if limit.seconds is None:
        return warning(
            f"a job has {clock_of(left)} before the batch system ends it, and {limit.setting} is "
            "not set",
            f"set {limit.setting} in campaign.yaml to less than {left}",
        )
    if limit.seconds > left:
        return warning(
            f"a job has {clock_of(left)} before the batch system ends it, and {limit.setting} is "
            f"{limit.seconds:g} s",
            f"lower {limit.setting} in campaign.yaml, or --timeout in {path}",
        )
    return ok(f"{clock_of(left)}, and {limit.setting} is {limit.seconds:g} s")


def queue(path: Path) -> Finding:
    """Ask the batch system whether it has the queue that an adapter names."""
    adapter = _adapter(path)
    dialect = _dialect(adapter)
    if dialect is None:
        return skipped(f"{adapter.q_type} is not one of {', '.join(BatchSystem)}")
    found = [_named(names, adapter, path) for names in dialect.names]
    bad = [each for each in found if each.state is not State.OK]
    return bad[0] if bad else ok("; ".join(each.found for each in found))


def _named(names: Names, adapter: CommonAdapter, path: Path) -> Finding:
    """Look a queue up among those that there are."""
    value = str(adapter.get(names.key) or "")
    if not value:
        return ok(f"the default {names.what} of the batch system")
    program = names.command[0]
    if shutil.which(program) is None:
        return warning(
            f"{program} is not on PATH, so nobody knows whether there is {names.what} {value}",
            "call this where `qlaunch` will run: on a login node, with the batch system's module",
        )
    code, told = answer(list(names.command))
    if code != 0:
        return warning(
            f"{shlex.join(names.command)} fails: {_last_line(told)}",
            "see that the batch system answers in this shell",
        )
    known = names.read(told)
    for wanted in value.split(maxsplit=1)[0].split(","):
        if wanted.partition("@")[0] not in known:
            return failure(
                f"{path}: there is no {names.what} {wanted!r}; there are {', '.join(known)}",
                f"correct `{names.key}` in the file",
            )
    return ok(f"{names.what} {value}")


def environment(folder: Path, launchpad_file: Path) -> Finding:
    """Source the environment script as a batch job does, and see what a worker finds."""
    path = folder / ENVIRONMENT
    if not path.is_file():
        return failure(f"{path}: not found", _written_by_init(folder))
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
            f"{path}: no worker can start after it: {_last_line(shell.stderr)}",
            "correct the script: its modules, and the Python in its PATH",
        )
    return _judged(json.loads(_last_line(shell.stdout)), path, launchpad_file)


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


def _adapter(path: Path) -> CommonAdapter:
    document = _mapping_in(path)
    try:
        return CommonAdapter.from_dict(document)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: no queue adapter of FireWorks: {error}.") from error


def _dialect(adapter: CommonAdapter) -> Dialect | None:
    name = adapter.q_type.lower()
    return DIALECTS[BatchSystem(name)] if name in {*BatchSystem} else None


def _value(words: list[str], option: str) -> str | None:
    """Find the word after another one."""
    return dict(pairwise(words)).get(option)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it says nothing"])[-1]


def _written_by_init(folder: Path) -> str:
    return f"`gan-htvs queue init {folder}` with the options of before writes it"
