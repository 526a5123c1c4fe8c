"""Files that are either the old ones or the new ones, whenever the power goes."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gan_htvs.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator


LOCK_FILE = ".lock"


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` in one step, so that a kill leaves the old file or the new one.

    Raises
    ------
    UserError
        If the folder cannot be written to.
    """
    with replaced(path) as file:
        file.write(data)


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """Give a file that takes the place of ``path`` once it is complete.

    Raises
    ------
    UserError
        If the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                # A temporary file is the owner's alone; what comes of it has the usual rights.
                os.fchmod(file.fileno(), 0o666 & ~_umask())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written: {error.strerror}; choose a writable folder."
        ) from error


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make a folder, and keep it from other processes that would hold it, with a file in it.

    Raises
    ------
    UserError
        If it cannot be written to, or another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK_FILE).open("a")
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written: {error.strerror}; choose a writable folder."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{folder}: another command writes here; wait for its end, or choose another "
                "folder."
            ) from error
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be locked: {error.strerror}; choose a folder elsewhere."
            ) from error
        yield


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
