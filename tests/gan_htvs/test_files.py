from __future__ import annotations

import pytest

from gan_htvs.errors import UserError
from gan_htvs.files import held


def test_a_folder_is_held_by_one_at_a_time(tmp_path):
    folder = tmp_path / "new" / "model"
    with held(folder):
        with pytest.raises(UserError, match="another command writes here"), held(folder):
            pass
        (folder / "file").write_text("")
    with held(folder):
        pass


@pytest.mark.parametrize("where", ["file", "file/model"])
def test_what_cannot_be_a_folder_is_told(tmp_path, where):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"), held(tmp_path / where):
        pass
