"""Atomic replacement of files, locks on files and folders, and errors of the operating system."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, TextIO
from uuid import uuid4

from gan_htvs.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_FILE = ".lock"

WRITABLE = "choose a writable folder, or change its permissions"
SPACE = "free some space and run the same command again"

FIXES = {
    errno.ENOSPC: SPACE,
    errno.EDQUOT: f"{SPACE} (`quota` lists the limits)",
    errno.EFBIG: "raise the limit of file sizes (`ulimit -f`)",
    errno.EROFS: "choose a folder on a writable file system",
    errno.EACCES: "choose another path, or change its permissions",
    errno.EPERM: "choose another path, or ask its owner",
    errno.ENOENT: "check the path, or create the folder",
    errno.ENOTDIR: "a part of the path is a file; correct the path",
    errno.EISDIR: "name a file",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "correct the symbolic links",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "close other programs, or ask the administrator of this machine",
    errno.ENOMEM: "use a machine with more memory, or fewer workers",
    errno.EAGAIN: "raise the limit of processes (`ulimit -u`), or use fewer workers",
    errno.EIO: "check the disk, then run the same command again",
    errno.ESTALE: "mount the file system again, then run the same command again",
    errno.ETIMEDOUT: "check the network or its file system, then run the same command again",
    errno.ECONNREFUSED: "start the server, or check the network",
    errno.EHOSTUNREACH: "check the network",
    errno.ENETUNREACH: "check the network",
}
"""What the user can do, by number of the error."""

NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL})
"""Errors of :func:`fcntl.flock` on file systems without locks."""


LEAST_SPACE = 2**20
"""Free space of a disk that counts as full, bytes."""


class NoLocksError(UserError):
    """The file system of a file has no locks."""


def explain_os_error(error: OSError) -> str | None:
    """Return what the operating system refused, for which path, and the fix, in one sentence.

    Returns
    -------
    None if the error names no file and has no known cause, such as errors of libraries that only
    derive from OSError.
    """
    fix = FIXES.get(error.errno or 0)
    if error.errno is None or (error.filename is None and fix is None):
        return None
    places = _full_folders() if error.errno == errno.ENOSPC else []
    if error.filename is not None:
        places = [os.fsdecode(error.filename)]
    where = f"{', '.join(places)}: " if places else ""
    return f"{where}{error.strerror}; {fix or 'check the path'}."


def _full_folders() -> list[str]:
    """Return which of current folder, temporary files and home are on a full disk."""
    full: list[str] = []
    for place in (os.curdir, tempfile.gettempdir(), os.environ.get("HOME", os.curdir)):
        with suppress(OSError):
            folder = os.path.realpath(place)
            if folder not in full and shutil.disk_usage(folder).free < LEAST_SPACE:
                full.append(folder)
    return full


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
def locked_folder(folder: Path, setting: str = "the folder") -> Iterator[None]:
    """Create a folder if necessary and hold a lock file in it.

    The lock excludes other processes that use this function. If the folder is new and still empty
    at the end, it is removed.

    Parameters
    ----------
    setting
        Option or setting that names the folder, for messages.

    Raises
    ------
    NoLocksError
        If its file system has no locks.
    UserError
        If the folder cannot be written to, or another process has locked it.
    """
    is_new = not folder.exists()
    with open_locked(folder / LOCK_FILE, setting=setting):
        try:
            yield
        finally:
            if is_new and list(folder.glob("*")) == [folder / LOCK_FILE]:
                (folder / LOCK_FILE).unlink()
                folder.rmdir()


def open_locked(
    path: Path, how: int = fcntl.LOCK_EX | fcntl.LOCK_NB, *, setting: str = "the folder"
) -> TextIO:
    """Open a file for appending and lock it until it is closed; create its folder if missing.

    Parameters
    ----------
    how
        Operation of :func:`fcntl.flock`.
    setting
        Option or setting that names the folder, for messages.

    Raises
    ------
    NoLocksError
        If its file system has no locks.
    UserError
        If the file cannot be opened, or another process has locked it.
    """
    with report_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a", encoding="utf-8")
        try:
            fcntl.flock(file, how)
        except OSError as error:
            file.close()
            if error.errno in NO_LOCKS:
                raise NoLocksError(
                    f"{path}: its file system has no locks ({error.strerror}), such as Lustre "
                    f"without the mount option flock and some NFS; set {setting} to a local disk."
                ) from error
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
            f"{name}: cannot be written: {error.strerror}; {FIXES.get(error.errno or 0, WRITABLE)}."
        ) from error
