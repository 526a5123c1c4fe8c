"""Files that are either the old ones or the new ones, whenever the power goes."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

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
    with _unwritable_is_told(path):
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


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make a folder, and keep it from other processes that would hold it, with a file in it.

    A folder that was made here and got nothing else is removed again.

    Raises
    ------
    UserError
        If it cannot be written to, or another process holds it.
    """
    with _unwritable_is_told(folder):
        is_new = not folder.exists()
        try:
            file = locked(folder / LOCK_FILE)
        except BlockingIOError as error:
            raise UserError(
                f"{folder}: another command writes here; wait for its end, or choose another "
                "folder."
            ) from error
    with file:
        try:
            yield
        finally:
            if is_new and list(folder.glob("*")) == [folder / LOCK_FILE]:
                (folder / LOCK_FILE).unlink()
                folder.rmdir()


def locked(path: Path) -> TextIO:
    """Open a file to append to, its folder made if missing, and lock it until it is closed.

    Raises
    ------
    BlockingIOError
        If another process has locked it.
    OSError
        If it cannot be opened or locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        file = stack.enter_context(path.open("a", encoding="utf-8"))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        stack.pop_all()
        return file


def require_writable(folder: Path, option: str) -> None:
    """Refuse, before any work, a folder that will not take what comes of it; leave it as it is.

    Raises
    ------
    UserError
        If the folder cannot be made or written to; ``option`` says who named it.
    """
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        with _unwritable_is_told(f"{option} {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    finally:
        with suppress(OSError):
            for each in new:
                each.rmdir()


@contextmanager
def _unwritable_is_told(name: object) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{name}: cannot be written: {error.strerror}; choose a writable folder."
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
