"""The files of one category: which jobs its workers take, what their batch jobs ask for."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
import warnings
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from fireworks import FWorker
from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter

from gan_htvs.errors import UserError
from gan_htvs.settings import read_mapping
from launchers.batch import BatchSystem
from launchers.doctor.check import Finding, State, failure, ok, skipped, warning
from launchers.doctor.machine import answer
from launchers.queue.dialects import DIALECTS, SIZES
from launchers.queue.profiles import clock_of, seconds_of
from launchers.queue.render import FWORKER

if TYPE_CHECKING:
    from pathlib import Path

    from gan_htvs.routing import Category
    from launchers.queue.dialects import Dialect, Names

BASH = "/bin/bash"
"""What batch scripts run in."""


class Limit(NamedTuple):
    """The longest that a calculation may take."""

    setting: str
    seconds: float | None


def worker(folder: Path, category: Category) -> Finding:
    """See that the FWorker file of a category takes its jobs."""
    path = folder / category / FWORKER
    if not path.is_file():
        return failure(
            f"{path}: not found, so no worker of this category can start",
            written_by_init(folder),
        )
    try:
        taken = FWorker.from_file(str(path)).category
    except Exception as error:  # noqa: BLE001 - FireWorks has no type of its own for it
        return failure(f"{path}: no FWorker file: {error!r:.120}", written_by_init(folder))
    if category not in ([taken] if isinstance(taken, str) else taken):
        return failure(
            f"{path}: takes {taken!r}, and jobs of {str(category)!r} would wait for ever",
            f"category: {category}",
        )
    return ok(f"take {taken if isinstance(taken, str) else ', '.join(taken)}")


def batch_job(path: Path, launchpad_file: Path) -> Finding:
    """Have FireWorks write the batch script, and read it as the shell will."""
    folder = path.parents[1]
    adapter = read_adapter(path)
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
                f"{path}: {adapter.template_file}: {error.strerror}", written_by_init(folder)
            )
    shell = subprocess.run(  # noqa: S603
        [BASH, "-n"], input=script, capture_output=True, text=True, check=False
    )
    if shell.returncode:
        return failure(
            f"{path}: {BASH} cannot read the script: {last_line(shell.stderr)}",
            "correct pre_rocket, rocket_launch and post_rocket",
        )
    return _launched(path, adapter, launchpad_file)


def _launched(path: Path, adapter: CommonAdapter, launchpad_file: Path) -> Finding:
    """Judge the command that starts the workers."""
    words = shlex.split(adapter.get("rocket_launch") or "")
    if "rlaunch" not in {word.rpartition("/")[2] for word in words[:4]}:
        return failure(f"{path}: rocket_launch calls no rlaunch", written_by_init(path.parents[1]))
    if "/" in words[0] and shutil.which(words[0]) is None:
        return failure(f"{path}: {words[0]} cannot be run", "correct rocket_launch")
    for option, expected in (("-l", launchpad_file), ("-w", path.with_name(FWORKER))):
        word = _value(words, option) or "nothing"
        if not _is_same(path.parent / word, expected):
            return failure(
                f"{path}: rocket_launch has {option} {word}, not {expected}",
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
        dialect = _dialect(adapter)
        system = None if dialect is None else dialect.system
        walltime = seconds_of(str(adapter.get("walltime")), system)
        return walltime, int(_value(shlex.split(adapter["rocket_launch"]), "--timeout") or 0)
    except ValueError as error:
        raise UserError(f"{path}: walltime or --timeout of rlaunch: {error}.") from error


def margin(path: Path, limit: Limit) -> Finding:
    """See that the longest calculation ends before its batch job does."""
    walltime, last = _times(path, read_adapter(path))
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
    adapter = read_adapter(path)
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
            f"{shlex.join(names.command)} fails: {last_line(told)}",
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


def read_adapter(path: Path) -> CommonAdapter:
    """Read a queue adapter of FireWorks whose values reach the batch script as they are written.

    Raises
    ------
    UserError
        If it cannot be read, is none, YAML reads a value as something else than what is written, or
        the batch system does not understand an amount of memory.
    """
    document = read_mapping(path, written_by_init(path.parent.parent), as_written=True)
    for key in ("queue", "rocket_launch"):  # FireWorks hands them to programs as they are
        if not isinstance(document.get(key), str | None):
            raise UserError(f"{path}: {key}: must be text; quote it: {key}: '{document[key]}'.")
    try:
        adapter = CommonAdapter.from_dict(document)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: no queue adapter of FireWorks: {error}.") from error
    _check_sizes(path, adapter)
    return adapter


def _check_sizes(path: Path, adapter: CommonAdapter) -> None:
    """Refuse amounts of memory that the batch system does not read as they are meant."""
    dialect = _dialect(adapter)
    for key in SIZES if dialect else ():
        size = adapter.get(key)
        if dialect and size is not None and dialect.size.fullmatch(str(size)) is None:
            raise UserError(
                f"{path}: {key}: {size} is no amount of memory for {dialect.name}; write it as "
                f"{dialect.size_forms}."
            )


def _dialect(adapter: CommonAdapter) -> Dialect | None:
    name = adapter.q_type.lower()
    return DIALECTS[BatchSystem(name)] if name in {*BatchSystem} else None


def _is_same(given: Path, expected: Path) -> bool:
    """Compare two files, which may be missing; other checks look for them."""
    if given.exists() and expected.exists():
        return given.samefile(expected)
    return given == expected


def _value(words: list[str], option: str) -> str | None:
    """Find the word after another one."""
    return dict(pairwise(words)).get(option)


def last_line(text: str) -> str:
    """Find what a program said last, which is what went wrong."""
    return (text.strip().splitlines() or ["it says nothing"])[-1]


def written_by_init(folder: Path) -> str:
    """Name the cure of a file that is lacking or broken."""
    return f"`gan-htvs queue init {folder}` with the options of before writes it"
