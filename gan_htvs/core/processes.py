"""Work spread over processes, of which one may die without taking the others' work along."""

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
"""Environment variable: cores that a job may use, which whoever starts workers knows."""

MAX_KILLED = 3
"""Where so many are killed before one has ended, it is not the fault of what they do."""

MAX_TEMPORARY_PATH = 70
"""Characters of a folder for temporary files in which a socket fits: its path may have 107."""

Key = TypeVar("Key")
Result = TypeVar("Result")


def available_cores() -> int:
    """Cores that the job in this process may use; one where nobody said more."""
    try:
        return max(1, int(os.environ.get(CORES_VARIABLE, "1")))
    except ValueError as error:
        raise UserError(
            f"{CORES_VARIABLE}: {os.environ[CORES_VARIABLE]!r} is not a number of cores."
        ) from error


def run_in_processes(
    function: Callable[..., Result],
    work: Mapping[Key, tuple[Any, ...]],
    n_processes: int | None = None,
    *,
    preload: Sequence[str] = (),
) -> Iterator[tuple[Key, Result | None]]:
    """Call a function for every piece of work and yield each result as it comes.

    A process that is killed, for want of memory or by a crash in a library, costs nothing but what
    it was at: the pieces that were in work are tried again one by one, and the one during which
    it happens again is given up.

    Parameters
    ----------
    function
        Importable by name; what it raises is raised here.
    work
        Arguments, by key.
    n_processes
        Each of one thread; None: everything happens in this process.
    preload
        Modules that every piece needs, beside the function's own: imported once for all
        processes, the first time that any are started.

    Yields
    ------
    Keys and results; None for a piece that killed its process twice.

    Raises
    ------
    UserError
        If processes are killed whatever they do.
    """
    if n_processes is None:
        for key, arguments in work.items():
            yield key, function(*arguments)
        return
    left = dict(work)
    works, n_killed = False, 0
    # Copies of a process that has imported everything start at once, and share its memory; of
    # this process, which may hold threads and connections, they could not be made.
    _context().set_forkserver_preload([function.__module__, *preload])
    while left:
        for key, result in _in_pool(function, left, n_processes):
            works = True
            del left[key]
            yield key, result
        # Where the pool broke, these were in work. One at a time shows which of them breaks it.
        for key in list(left)[:n_processes]:
            alone = dict(_in_pool(function, {key: left.pop(key)}, 1))
            works = works or key in alone
            n_killed += key not in alone
            if not works and n_killed == MAX_KILLED:
                raise UserError(
                    "worker processes keep being killed; is the node out of memory? Free some, and "
                    "run it again."
                )
            yield key, alone.get(key)


def _in_pool(
    function: Callable[..., Result], work: Mapping[Key, tuple[Any, ...]], n_processes: int
) -> Iterator[tuple[Key, Result]]:
    """Work in a new pool, in order, until all is done or a process dies."""
    others = set(multiprocessing.active_children())
    waiting = iter(list(work.items()))
    running: dict[Future[Result], Key] = {}
    n_processes = min(n_processes, len(work))
    pool = ProcessPoolExecutor(n_processes, mp_context=_context(), initializer=_alone)
    try:
        while True:
            # No more than there are processes, so that it is known what a dead one was at.
            while len(running) < n_processes and (piece := next(waiting, None)) is not None:
                with _script_hidden_from(function):
                    running[pool.submit(function, *piece[1])] = piece[0]
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                key = running.pop(future)
                yield key, future.result()
    except BrokenProcessPool:
        return
    finally:
        # After Ctrl-C what is still going on is not waited for.
        pool.shutdown(wait=not running, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()


@contextmanager
def _script_hidden_from(function: Callable[..., Any]) -> Iterator[None]:
    """Keep a process that is started from running the script of this one again.

    multiprocessing runs it to find the functions that it defines; where ``function`` is another
    one, the script of a user would start its whole flow in each process.
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


def _alone() -> None:
    """Keep a process of the pool to one core, and let it live and die with who started it."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()


def _follow(server: int) -> None:
    """End with the process that works are for, or with the one that this is a copy of."""
    parent = multiprocessing.parent_process()
    while os.getppid() == server and parent is not None and parent.is_alive():
        time.sleep(1)
    os._exit(1)
