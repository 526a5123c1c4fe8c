"""Atomic replacement of files, and locks on files and folders."""

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
    """Replace a file atomically: an interrupted write keeps the old file.

    Raises
    ------
    UserError
        If the folder cannot be written to.
    """
    with open_atomically(path) as file:
        file.write(data)


@contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` when it is closed without an error.

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
    """Create a folder if necessary and hold a lock file in it.

    The lock excludes other processes that use this function. If the folder is new and still empty
    at the end, it is removed.

    Raises
    ------
    UserError
        If the folder cannot be written to, or another process has locked it.
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
    """Open a file for appending and lock it until it is closed; create its folder if missing.

    Parameters
    ----------
    how
        Operation of :func:`fcntl.flock`.

    Raises
    ------
    UserError
        If the file cannot be opened, or another process has locked it.
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
    """Check that a folder, or its nearest existing parent, can be written to.

    Parameters
    ----------
    option
        Command-line option that names the folder, for the message.

    Raises
    ------
    UserError
        If the folder cannot be written to.
    """
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    with report_write_errors(f"{option} {folder}"), tempfile.TemporaryFile(dir=nearest):
        pass


@contextmanager
def report_write_errors(name: object) -> Iterator[None]:
    """Convert an OSError to a UserError with the name of the file or option."""
    try:
        yield
    except BlockingIOError as error:
        raise UserError(
            f"{name}: another command writes here; wait until it ends, or choose another folder."
        ) from error
    except OSError as error:
        raise UserError(
            f"{name}: cannot be written: {error.strerror}; choose a writable folder."
        ) from error
