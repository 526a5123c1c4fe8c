"""Worker processes whose crashes do not affect the work of other processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from gan_htvs.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from multiprocessing.context import BaseContext

CORES_VARIABLE = "GAN_HTVS_CORES"
"""Environment variable with the number of cores of a job, set where workers are started."""

MAX_KILLED = 3
"""Killed processes without any result after which the machine is assumed to be the cause."""

MAX_TEMPORARY_PATH = 70
"""Longest path of the folder for temporary files, characters; a socket path may have 107."""

Key = TypeVar("Key")
Result = TypeVar("Result")


def available_cores() -> int:
    """Return the number of cores that this job may use; 1 by default."""
    try:
        return max(1, int(os.environ.get(CORES_VARIABLE, "1")))
    except ValueError as error:
        raise UserError(
            f"{CORES_VARIABLE}: {os.environ[CORES_VARIABLE]!r} is not a number of cores; set an "
            "integer, or unset the variable."
        ) from error


def run_in_processes(
    function: Callable[..., Result],
    work: Mapping[Key, tuple[Any, ...]],
    n_processes: int | None = None,
    *,
    preload: Sequence[str] = (),
) -> Iterator[tuple[Key, Result | None]]:
    """Call a function for each item of work in worker processes and yield results as they come.

    If a process is killed, because memory is exhausted or a library crashes, the items that were
    running are repeated one at a time. An item whose process is killed again is given up.

    Parameters
    ----------
    function
        Function that can be imported by name; its exceptions are raised here.
    work
        Arguments of each call, by key.
    n_processes
        Number of processes with one thread each; None: run in this process.
    preload
        Modules that the function needs besides its own; the server from which the processes are
        forked imports them once.

    Yields
    ------
    Keys and results; the result is None for an item whose process was killed twice.

    Raises
    ------
    UserError
        If ``MAX_KILLED`` processes are killed before any item has succeeded.
    """
    if n_processes is None:
        for key, arguments in work.items():
            yield key, function(*arguments)
        return
    remaining = dict(work)
    has_result, n_killed = False, 0
    # Processes forked from a server with all imports start fast and share its memory. This process
    # cannot be forked, since it may have threads and connections.
    _context().set_forkserver_preload([function.__module__, *preload])
    while remaining:
        for key, result in _run_pool(function, remaining, n_processes):
            has_result = True
            del remaining[key]
            yield key, result
        # If the pool broke, these items were running; repeat them one at a time.
        for key in list(remaining)[:n_processes]:
            results = dict(_run_pool(function, {key: remaining.pop(key)}, 1))
            has_result = has_result or key in results
            n_killed += key not in results
            if not has_result and n_killed == MAX_KILLED:
                raise UserError(
                    "worker processes keep being killed; is the node out of memory? Free some, "
                    "and run again."
                )
            yield key, results.get(key)


def _run_pool(
    function: Callable[..., Result], work: Mapping[Key, tuple[Any, ...]], n_processes: int
) -> Iterator[tuple[Key, Result]]:
    """Run items in order in a new pool until all are done or a process dies."""
    other_children = set(multiprocessing.active_children())
    queue = iter(list(work.items()))
    running: dict[Future[Result], Key] = {}
    n_processes = min(n_processes, len(work))
    pool = ProcessPoolExecutor(n_processes, mp_context=_context(), initializer=_initialize_worker)
    try:
        while True:
            # At most one item per process, so that the items of a dead process are known.
            while len(running) < n_processes and (item := next(queue, None)) is not None:
                with _hidden_script(function):
                    running[pool.submit(function, *item[1])] = item[0]
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                key = running.pop(future)
                yield key, future.result()
    except BrokenProcessPool:
        return
    finally:
        # After Ctrl-C, do not wait for running items.
        pool.shutdown(wait=not running, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - other_children:
            child.terminate()


@contextmanager
def _hidden_script(function: Callable[..., Any]) -> Iterator[None]:
    """Hide the main script from processes that start here, unless it defines ``function``.

    multiprocessing runs the main script again in each new process, and the script of a user would
    start its whole flow there.
    """
    main = sys.modules["__main__"]
    if function.__module__ != "__main__":
        sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _context() -> BaseContext:
    fits = len(tempfile.gettempdir()) <= MAX_TEMPORARY_PATH
    return multiprocessing.get_context("forkserver" if fits else "spawn")


def _initialize_worker() -> None:
    """Limit a worker process to one thread, and end it when its parent ends."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()


def _exit_with_parent(server: int) -> None:
    """Exit when the process that submits the work, or the fork server, has ended."""
    parent = multiprocessing.parent_process()
    while os.getppid() == server and parent is not None and parent.is_alive():
        time.sleep(1)
    os._exit(1)
