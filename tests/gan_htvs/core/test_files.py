from __future__ import annotations

from contextlib import suppress

import pytest

from gan_htvs.core.errors import UserError
from gan_htvs.core.files import locked_folder


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
