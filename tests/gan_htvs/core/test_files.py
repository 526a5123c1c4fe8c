from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

import pytest

from gan_htvs.core.errors import UserError
from gan_htvs.core.files import (
    FIXES,
    NoLocksError,
    explain_os_error,
    locked_folder,
    report_write_errors,
    write_atomically,
)


def test_second_lock_of_a_folder_is_refused(tmp_path):
    folder = tmp_path / "new" / "model"
    with locked_folder(folder):
        with pytest.raises(UserError, match="another command writes here"), locked_folder(folder):
            pass
        (folder / "file").write_text("")
    with locked_folder(folder):
        pass


@pytest.mark.parametrize("where", ["file", "file/model"])
def test_folder_that_cannot_be_created_is_a_user_error(tmp_path, where):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"), locked_folder(tmp_path / where):
        pass


def test_only_new_empty_folders_are_removed(tmp_path):
    old, new, used = (tmp_path / name for name in ("old", "new", "used"))
    old.mkdir()
    for folder in (old, new, used):
        with suppress(UserError), locked_folder(folder):
            if folder == used:
                (folder / "file").write_text("")
            raise UserError("the dataset is empty")
    assert old.exists()
    assert not new.exists()
    assert (used / "file").exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_system_without_locks_is_a_user_error(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(NoLocksError) as raised, locked_folder(tmp_path / "runs", "--workdir"):
        pass
    assert str(tmp_path / "runs") in str(raised.value)
    assert "--workdir" in str(raised.value)


@pytest.mark.parametrize(
    "act",
    [
        lambda folder: (folder / "missing" / "file").read_text(),
        lambda folder: (folder / "file" / "below").write_text(""),
        lambda folder: folder.read_bytes(),
        lambda folder: (folder / ("x" * 300)).touch(),
        lambda folder: (folder / "loop").read_text(),
    ],
)
def test_error_of_the_system_is_explained_with_path_and_fix(tmp_path, act):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError, match="Errno") as raised:
        act(tmp_path)
    sentence = explain_os_error(raised.value)
    assert str(tmp_path) in sentence
    assert FIXES[raised.value.errno] in sentence


def test_full_device_is_explained_without_a_path():
    with pytest.raises(OSError, match="space") as raised, Path("/dev/full").open("w") as file:
        file.write("x")
    assert FIXES[errno.ENOSPC] in explain_os_error(raised.value)


@pytest.mark.parametrize(
    "error", [OSError("not an image"), BrokenPipeError(errno.EPIPE, "Broken pipe")]
)
def test_errors_that_only_derive_from_os_errors_are_not_explained(error):
    assert explain_os_error(error) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_refused_write_names_file_and_fix(number):
    with pytest.raises(UserError) as raised, report_write_errors("results.csv"):
        raise OSError(number, os.strerror(number))
    for part in ("results.csv", os.strerror(number), FIXES[number]):
        assert part in str(raised.value)


def test_interrupted_write_keeps_the_old_file(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(UserError, match="below"):
        write_atomically(tmp_path / "file" / "below", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
