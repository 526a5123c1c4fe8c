from __future__ import annotations

import zipfile

import pytest
from ase.build import bulk
from ase.io import write

from gan_htvs.core.errors import UserError
from gan_htvs.structures.structure_files import parse_folder, read_crystals, read_structures
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


def crystals(folder):
    return {name: s.formula for name, s in read_crystals(folder, "STRUCTURES").structures.items()}


def test_crystals_of_files_archives_and_folders(tmp_path):
    atoms = [bulk("MgO", "rocksalt", a=4.2), bulk("MnO", "rocksalt", a=4.4)]
    write(tmp_path / "frames.extxyz", atoms)
    assert crystals(tmp_path / "frames.extxyz") == {
        "frames.extxyz#1": "Mg1 O1",
        "frames.extxyz#2": "Mn1 O1",
    }
    archive = tmp_path / "structures.zip"
    with zipfile.ZipFile(archive, "w") as content:
        content.write(tmp_path / "frames.extxyz", "frames.extxyz")
        content.writestr("notes.txt", "text")
    assert crystals(archive) == crystals(tmp_path / "frames.extxyz")
    assert list(read_crystals(archive, "STRUCTURES").other_files) == ["notes.txt"]
    (tmp_path / "frames.extxyz").unlink()
    with pytest.raises(UserError, match="structure file"):
        crystals(tmp_path)


def test_crystals_may_have_an_impossible_geometry(tmp_path):
    close = bulk("MgO", "rocksalt", a=0.4)
    write(tmp_path / "close.extxyz", close)
    assert read_structures(tmp_path).skipped.keys() == {"close.extxyz"}
    assert crystals(tmp_path / "close.extxyz") == {"close.extxyz": "Mg1 O1"}


@pytest.mark.parametrize("name", ["missing.cif", "text.txt", "damaged.zip"])
def test_source_without_crystal_is_a_user_error(tmp_path, name):
    (tmp_path / "text.txt").write_text("text")
    with zipfile.ZipFile(tmp_path / "damaged.zip", "w") as content:
        content.writestr("a.cif", "data_a " * 100)
    data = (tmp_path / "damaged.zip").read_bytes()
    (tmp_path / "damaged.zip").write_bytes(data.replace(b"data_a ", b"data_b ", 1))
    with pytest.raises(UserError, match=name):
        crystals(tmp_path / name)
