"""Files that are replaced in one step, and locks on files and folders."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, TextIO
from uuid import uuid4

from gan_htvs.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_FILE = ".lock"


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` in one step, so that a kill leaves the old file or the new one.

    Raises
    ------
    UserError
        If the folder cannot be written to.
    """
    with open_atomically(path) as file:
        file.write(data)


@contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` once it is complete.

    Raises
    ------
    UserError
        If the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    with report_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink()


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Make a folder and lock it, by a file in it, against other processes that use this function.

    A new folder that got nothing else is removed again.

    Raises
    ------
    UserError
        If it cannot be written to, or another process holds it.
    """
    is_new = not folder.exists()
    with open_locked(folder / LOCK_FILE):
        try:
            yield
        finally:
            if is_new and list(folder.glob("*")) == [folder / LOCK_FILE]:
                (folder / LOCK_FILE).unlink()
                folder.rmdir()


def open_locked(path: Path, how: int = fcntl.LOCK_EX | fcntl.LOCK_NB) -> TextIO:
    """Open a file to append to, its folder made if missing, and lock it until it is closed.

    Parameters
    ----------
    how
        As in :func:`fcntl.flock`.

    Raises
    ------
    UserError
        If it cannot be opened, or another process has locked it.
    """
    with report_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a", encoding="utf-8")
        try:
            fcntl.flock(file, how)
        except OSError:
            file.close()
            raise
        return file


def require_writable(folder: Path, option: str) -> None:
    """Check before any work that a folder, or the nearest that exists above it, can be written to.

    Raises
    ------
    UserError
        If it cannot; ``option`` is the one that named it.
    """
    nearest = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    with report_write_errors(f"{option} {folder}"), tempfile.TemporaryFile(dir=nearest):
        pass


@contextmanager
def report_write_errors(name: object) -> Iterator[None]:
    """Raise a UserError with the name of what cannot be written in place of an OSError."""
    try:
        yield
    except BlockingIOError as error:
        raise UserError(
            f"{name}: another command writes here; wait for its end, or choose another folder."
        ) from error
    except OSError as error:
        raise UserError(
            f"{name}: cannot be written: {error.strerror}; choose a writable folder."
        ) from error
