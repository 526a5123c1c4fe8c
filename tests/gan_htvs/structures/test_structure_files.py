from __future__ import annotations

import pytest

from gan_htvs.core.errors import UserError
from gan_htvs.structures.structure_files import parse_folder, read_structures
from tests.helpers import rocksalt


def test_structures_that_no_program_can_compute_are_skipped(tmp_path):
    text = rocksalt().to(fmt="poscar")
    (tmp_path / "POSCAR").write_text(text)
    (tmp_path / "broken.poscar").write_text(text.replace("0.5", "nan", 1))
    folder = read_structures(tmp_path)
    assert list(folder.structures) == ["POSCAR"]
    assert list(folder.skipped) == ["broken.poscar"]


def test_every_file_is_read_or_named_except_hidden_ones(tmp_path):
    (tmp_path / "deep" / ".git").mkdir(parents=True)
    (tmp_path / "deep" / "POSCAR").write_text(rocksalt().to(fmt="poscar"))
    (tmp_path / "deep" / ".git" / "POSCAR").write_text("hidden")
    (tmp_path / "._a.cif").write_bytes(b"\0\5\26\7")
    (tmp_path / "results.csv").write_text("id,energy\n1,2\n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    folder = read_structures(tmp_path)
    assert list(folder.structures) == ["deep/POSCAR"]
    assert list(folder.other_files) == ["picture.png", "results.csv"]
    (sentence,) = folder.source_notes
    assert all(name in sentence for name in folder.other_files)


def test_folder_without_structures_is_a_user_error(tmp_path):
    (tmp_path / "notes.txt").write_text("no structure")
    with pytest.raises(UserError, match=r"structures\.path"):
        read_structures(tmp_path)


def test_errors_of_the_preparation_are_reasons(tmp_path, monkeypatch):
    def fail(structure):
        raise RuntimeError("no species")

    monkeypatch.setattr("gan_htvs.structures.structure_files.without_properties", fail)
    (tmp_path / "POSCAR").write_text(rocksalt().to(fmt="poscar"))
    (parsed,) = parse_folder(tmp_path, "dataset.path")
    assert isinstance(parsed.structure, ValueError)


def test_links_that_lead_to_no_file_are_named(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "POSCAR").write_text(rocksalt().to(fmt="poscar"))
    (tmp_path / "data" / "broken.cif").symlink_to("nowhere")
    (tmp_path / "data" / "loop.cif").symlink_to("loop.cif")
    (tmp_path / "data" / "more").symlink_to(tmp_path)
    folder = read_structures(tmp_path / "data")
    assert list(folder.structures) == ["POSCAR"]
    assert list(folder.skipped) == ["broken.cif", "loop.cif", "more"]
