from __future__ import annotations

import gzip
import io
import json

import pytest
from ase.io.extxyz import write_extxyz
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from gan_htvs.structures.matching import structure_matcher
from gan_htvs.structures.poscar import NoStructureFileError
from gan_htvs.structures.structure_formats import parse_file
from tests.helpers import layered, rocksalt, spinel

POSCAR = rocksalt().to(fmt="poscar")
CIF = rocksalt().to(fmt="cif")


def extxyz(*structures: Structure) -> str:
    text = io.StringIO()
    write_extxyz(text, [AseAtomsAdaptor.get_atoms(s, msonable=False) for s in structures])
    return text.getvalue()


def poscar(symbols: str, *, after: str = "") -> str:
    """Return the POSCAR of MgO with another line of symbols, and text after each atom."""
    lines = POSCAR.rstrip().split("\n")
    atoms = [" ".join(line.split()[:3]) + after for line in lines[8:]]
    return "\n".join([*lines[:5], *([symbols] if symbols else []), *lines[6:8], *atoms]) + "\n"


@pytest.fixture
def parse(tmp_path):
    """Function that parses a file with this name and content."""

    def parse(name: str, content: str | bytes):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return parse_file(path, name)

    return parse


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.cif", CIF),
        ("a.mcif", CIF),
        ("a.cif.gz", gzip.compress(CIF.encode(), mtime=0)),
        ("misnamed.cif", POSCAR),
        ("x.cif.vasp", POSCAR),
        ("MgO_POSCAR", POSCAR),
        ("no-suffix", CIF),
        ("POSCAR.gz", gzip.compress(POSCAR.encode(), mtime=0)),
        ("mark.cif", b"\xef\xbb\xbf" + CIF.encode()),
        ("windows.cif", CIF.replace("\n", "\r\n")),
        ("powershell.cif", CIF.encode("utf-16")),
        ("big-endian.cif", b"\xfe\xff" + CIF.encode("utf-16-be")),
        ("without-mark.cif", CIF.encode("utf-16-le")),
        ("powershell.vasp", POSCAR.encode("utf-16")),
        ("four-bytes.cif", CIF.encode("utf-32")),
        ("four-bytes-big-endian.vasp", b"\0\0\xfe\xff" + POSCAR.encode("utf-32-be")),
        ("latin.vasp", "Magnésie\n".encode("latin-1") + POSCAR.split("\n", 1)[1].encode()),
        ("a.extxyz", extxyz(rocksalt())),
        ("a.xyz", extxyz(rocksalt())),
        ("a.json", rocksalt().to(fmt="json")),
        ("entry.json", json.dumps({"entry_id": "x", "structure": rocksalt().as_dict()})),
    ],
)
def test_format_follows_the_content(parse, name, content):
    (parsed,) = parse(name, content)
    assert parsed.label == name
    assert not parsed.note
    assert structure_matcher().fit(parsed.structure, rocksalt())


@pytest.mark.parametrize(
    ("name", "content", "labels"),
    [
        (
            "all.cif",
            "\n".join(s.to(fmt="cif") for s in (rocksalt(), layered(), spinel())),
            ["all.cif#MgO", "all.cif#MgMnO2", "all.cif#MgMn2O4"],
        ),
        ("all.cif", CIF + CIF, ["all.cif#MgO", "all.cif#MgO (2)"]),
        ("all.xyz", extxyz(rocksalt(), spinel()), ["all.xyz#1", "all.xyz#2"]),
        ("a.json", json.dumps([rocksalt().as_dict()] * 2), ["a.json#1", "a.json#2"]),
        (
            "named.json",
            json.dumps({"x": rocksalt().as_dict(), "007": spinel().as_dict()}),
            ["named.json#x", "named.json#007"],
        ),
    ],
)
def test_all_structures_of_a_file_are_read(parse, name, content, labels):
    parsed = parse(name, content)
    assert [item.label for item in parsed] == labels
    assert all(isinstance(item.structure, Structure) for item in parsed)


def test_poscar_without_symbols_is_reported(parse):
    (parsed,) = parse("POSCAR", poscar(""))
    assert "VASP 4" in str(parsed.structure)
    (commented,) = parse("POSCAR", "Mg O\n" + poscar("").split("\n", 1)[1])
    assert "VASP 4" in str(commented.structure)


def test_symbols_after_the_coordinates_name_the_elements(parse):
    lines = poscar("").rstrip().split("\n")
    lines[-2] += " Mg"
    lines[-1] += " O"
    (parsed,) = parse("POSCAR", "\n".join(lines))
    assert parsed.structure.composition.reduced_formula == "MgO"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (poscar("Mg"), "1 symbols"),
        (poscar("Mg O F"), "3 symbols"),
        (poscar("Mg O", after=" Mg"), "atom 2"),
        (poscar("Mg Qq"), "not an element"),
        (POSCAR.replace("1 1\n", "1 2\n"), "3 atoms"),
        (POSCAR.replace("1 1\n", "1 99999999999\n"), "100000000000 atoms"),
        (POSCAR + "0.25 0.25 0.25 O\n", "those of 3"),
        ("", "empty"),
    ],
)
def test_poscar_that_contradicts_itself_is_not_read(parse, content, reason):
    (parsed,) = parse("POSCAR", content)
    assert isinstance(parsed.structure, ValueError)
    assert reason in str(parsed.structure)


def test_velocities_are_no_atoms(parse):
    (parsed,) = parse("CONTCAR", POSCAR + "\n0.0 0.0 0.0\n0.0 0.0 0.0\n")
    assert len(parsed.structure) == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", "not a structure"),
        ("campaign.yaml", "name: x\n"),
        ("CHGCAR", POSCAR + "\n2 2 2\n0 0 0 0 0 0 0 0\n"),
        ("XDATCAR", POSCAR.replace("direct", "Direct configuration=     1")),
        ("package.json", '{"name": "x"}'),
        ("broken.json", '{"name": '),
        ("script.py", "data_x = 1\n"),
        ("image.png", b"\x89PNG\0\0\0"),
    ],
)
def test_other_files_are_no_structure_files(parse, name, content):
    (parsed,) = parse(name, content)
    assert isinstance(parsed.structure, NoStructureFileError)


def test_broken_frames_do_not_hide_the_others(parse):
    text = extxyz(rocksalt(), spinel()).replace("Lattice", "Cell", 1)
    first, second = parse("a.extxyz", text)
    assert "lattice" in str(first.structure)
    assert len(second.structure) == len(spinel())
    (whole, *_, rest) = parse("a.extxyz", extxyz(rocksalt()) + "99\n")
    assert isinstance(whole.structure, Structure)
    assert isinstance(rest.structure, ValueError)


def test_layers_and_molecules_are_no_crystals(parse):
    (slab,) = parse("slab.xyz", extxyz(rocksalt()).replace('"T T T"', '"T T F"'))
    assert "periodic" in str(slab.structure)
    (molecule,) = parse("co.xyz", "2\n\nC 0 0 0\nO 0 0 1.1\n")
    assert "lattice" in str(molecule.structure)


def test_damaged_compression_is_a_reason(parse):
    (parsed,) = parse("a.cif.gz", gzip.compress(CIF.encode(), mtime=0)[:60])
    assert "compression" in str(parsed.structure)
