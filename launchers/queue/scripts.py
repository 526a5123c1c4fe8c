"""Run FireWorks' own scripts on the launchpad of this package, with their arguments and output."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import secrets
import signal
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from runpy import run_module
from typing import TYPE_CHECKING, Any

import jobflow
from fireworks import FWorker, LaunchPad
from fireworks.features import multi_launcher
from fireworks.scripts import _helpers
from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter
from fireworks.utilities import fw_utilities
from fireworks.utilities.fw_serializers import load_object_from_file

from gan_htvs.core.errors import UserError
from gan_htvs.core.settings import read_mapping
from gan_htvs.core.text import one_line
from gan_htvs.core.versions import versions
from launchers.launchpad.batch_system import BatchQueue
from launchers.launchpad.database import open_databases
from launchers.launchpad.foreign_settings import restore_jobflow_settings
from launchers.launchpad.workers import (
    attach_worker,
    differences,
    mark_children,
    stop_at_once,
    this_worker,
)
from launchers.queue.adapter import read_adapter, read_fworker

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

    from fireworks.queue.queue_adapter import QueueAdapterBase

    from launchers.launchpad.database import Databases
    from launchers.launchpad.jobs import CampaignLaunchPad

LAUNCHPAD_FILE = Path("my_launchpad.yaml")


def lpad(arguments: Sequence[str]) -> None:
    """Run ``lpad``.

    Raises
    ------
    UserError
        If a file is missing or wrong, or FireWorks refuses the arguments.
    """
    _run("lpad", arguments)


def qlaunch(arguments: Sequence[str]) -> None:
    """Run ``qlaunch``; reservations record the cluster for which they were made.

    Raises
    ------
    UserError
        If a file is missing or fails the checks of `gan-htvs queue check`, if FireWorks rejects the
        arguments, or if the batch system rejects the job.
    """
    submitter = this_worker().model_copy(update={"cluster": BatchQueue().cluster})
    refusals = _Refusals(logging.ERROR)
    logging.getLogger().addHandler(refusals)
    try:
        _run(
            "qlaunch",
            arguments,
            FWorker=_FWorkers(lambda fworker: attach_worker(fworker, submitter)),
            load_object_from_file=_read_adapter,
        )
    finally:
        logging.getLogger().removeHandler(refusals)
    if refusals.first is not None:
        raise UserError(
            f"the batch system rejected the job: {refusals.first}; `gan-htvs queue check` lists "
            "the available queues."
        )


def _read_adapter(path: str) -> QueueAdapterBase:
    """Read a queue adapter; a CommonAdapter is checked as by `gan-htvs queue check`."""
    hint = "write one with `gan-htvs queue init`"
    name = read_mapping(Path(path), hint, as_written=True).get("_fw_name")
    if name == CommonAdapter._fw_name:  # noqa: SLF001 - written in files
        return read_adapter(Path(path))
    try:
        return load_object_from_file(path)
    except Exception as error:
        raise UserError(
            f"{path}: _fw_name ({name}): FireWorks cannot load this queue adapter: "
            f"{type(error).__name__}: {one_line(error)}; for PBS, SLURM and SGE write "
            "CommonAdapter."
        ) from error


class _Refusals(logging.Handler):
    """Collect the error of a batch system that rejects a job, which FireWorks only logs."""

    first: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the first error, which FireWorks logs as the text of a bytes object."""
        match = re.search(r"The error response reads: b?(.*)", record.getMessage())
        if match and self.first is None:
            answer = match[1].encode().decode("unicode_escape").strip("'\"")
            self.first = " ".join(answer.split()).rstrip(".")


def rlaunch(arguments: Sequence[str], warn: Callable[[str], None]) -> None:
    """Run ``rlaunch``; launches record the worker, and outputs go to the same database.

    A worker that is stopped leaves its job RUNNING; `gan-htvs recover` queues it again.

    Parameters
    ----------
    arguments
        Arguments of FireWorks' ``rlaunch``.
    warn
        Called with each warning for the user.

    Raises
    ------
    UserError
        If a file is missing or wrong, or FireWorks rejects the arguments.
    """

    def use(databases: Databases) -> None:
        jobflow.SETTINGS.JOB_STORE = databases.job_store()
        for sentence in version_warnings(databases):
            warn(sentence)

    def identify(fworker: FWorker) -> None:
        """Give an FWorker the identity of this process, and of each child in the child."""
        _identify(fworker)
        os.register_at_fork(after_in_child=lambda: _identify(fworker))

    # Children of `rlaunch multi` inherit the store, the key and the signal handlers.
    multiprocessing.set_start_method("fork", force=True)
    # They share a launchpad through a key, which FireWorks hard-codes.
    multi_launcher.DS_PASSWORD = fw_utilities.DS_PASSWORD = secrets.token_bytes(32)
    signal.signal(signal.SIGTERM, stop_at_once)
    _run("rlaunch", arguments, use, FWorker=_FWorkers(identify), handle_interrupt=stop_at_once)


def _identify(fworker: FWorker) -> None:
    """Record the identity of this process in an FWorker and in the environment of its children."""
    worker = this_worker()
    mark_children(worker)
    attach_worker(fworker, worker)


def version_warnings(databases: Databases) -> list[str]:
    """Return a warning for each campaign submitted with other package versions than these."""
    with databases.store("campaigns", key="name") as campaigns:
        submitted = campaigns.query(
            {"submission.versions": {"$exists": True}}, ["name", "submission.versions"]
        )
        return [
            f"This worker has other versions than the submitter of {campaign['name']!r}: "
            f"{', '.join(differing)}."
            for campaign in submitted
            if (differing := differences(versions(), campaign["submission"]["versions"]))
        ]


@dataclass
class _LaunchPads:
    """Replacement for the class LaunchPad in FireWorks' scripts, which opens our launchpads."""

    use: Callable[[Databases], None]
    opened: ExitStack
    _known: dict[str, CampaignLaunchPad] = field(default_factory=dict, init=False)

    def __call__(self, **_: Any) -> LaunchPad:
        raise UserError(
            "my_launchpad.yaml: not found here; name the file with -l, or write one with "
            "`gan-htvs init`."
        )

    def from_file(self, path: str) -> CampaignLaunchPad:
        """Open a launchpad; an embedded server runs until the script ends."""
        if path not in self._known:
            databases = self.opened.enter_context(open_databases(Path(path)))
            self.use(databases)
            self._known[path] = databases.launchpad()
        return self._known[path]

    from_dict = staticmethod(LaunchPad.from_dict)  # for ``lpad init``


@dataclass
class _FWorkers:
    """Replacement for the class FWorker in FireWorks' scripts, which adds a worker's identity."""

    identify: Callable[[FWorker], None]

    def __call__(self) -> FWorker:
        """Return a worker without an FWorker file, which takes all jobs."""
        return self._identified(FWorker())

    def from_file(self, path: str) -> FWorker:
        """Read a worker from its file."""
        return self._identified(read_fworker(Path(path)))

    def _identified(self, fworker: FWorker) -> FWorker:
        self.identify(fworker)
        return fworker


def _run(
    command: str,
    arguments: Sequence[str],
    use: Callable[[Databases], None] = lambda _: None,
    **names: Any,
) -> None:
    """Run a script of FireWorks with replaced names, in a copy of its module.

    FireWorks would search for the launchpad file as set in FW_config.yaml (CONFIG_FILE_DIR,
    LAUNCHPAD_LOC) and in the home directory. Here it is the file of -l, or my_launchpad.yaml in the
    folder of -c or in the working directory.

    Parameters
    ----------
    command
        Name of the script.
    arguments
        Its arguments.
    use
        Called with the databases of each launchpad.
    names
        Objects that replace those of the script.
    """
    restore_jobflow_settings()  # batch jobs inherit the environment of qlaunch
    script = run_module(f"fireworks.scripts.{command}_run")
    with ExitStack() as opened:
        script |= names | {
            "CONFIG_FILE_DIR": str(LAUNCHPAD_FILE.parent),
            "LAUNCHPAD_LOC": str(LAUNCHPAD_FILE) if LAUNCHPAD_FILE.exists() else None,
            "LaunchPad": _LaunchPads(use, opened),
            "_validate_config_file_paths": _find_files,
        }
        try:
            script[command](arguments)
        except FileNotFoundError as error:
            raise UserError(
                f"{error} Write a launchpad file with `gan-htvs init`, and the files of a queue "
                "with `gan-htvs queue init`."
            ) from error
        except ValueError as error:
            raise UserError(str(error)) from error


def _find_files(arguments: Namespace, files: Sequence[tuple[str, str, bool, str | None]]) -> None:
    """Find the files that no option names, as FireWorks does, but reject missing ones."""
    folder = Path(arguments.config_dir)
    if not folder.is_dir():
        raise UserError(f"--config_dir {folder}: no such folder; correct or omit it.")
    _helpers._validate_config_file_paths(arguments, files)  # noqa: SLF001
    if getattr(arguments, "fworker_file", "") is None and folder != LAUNCHPAD_FILE.parent:
        raise UserError(
            f"{folder / 'my_fworker.yaml'}: not found; write one for every category with "
            "`gan-htvs queue init`."
        )
