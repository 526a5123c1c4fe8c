from __future__ import annotations

import pytest

from gan_htvs.core.errors import UserError
from gan_htvs.structures.structure_files import read_structures
from tests.helpers import rocksalt


def test_structures_that_no_program_can_compute_are_skipped(tmp_path):
    text = rocksalt().to(fmt="poscar")
    (tmp_path / "POSCAR").write_text(text)
    (tmp_path / "broken.poscar").write_text(text.replace("0.5", "nan", 1))
    structures, skipped = read_structures(tmp_path)
    assert list(structures) == ["POSCAR"]
    assert list(skipped) == ["broken.poscar"]


def test_folder_without_structures_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"structures\.path"):
        read_structures(tmp_path)
