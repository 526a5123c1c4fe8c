from __future__ import annotations

import csv
import hashlib
from functools import partial

import pytest
from ase.io import read
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from gan_htvs.core.errors import UserError
from gan_htvs.results.export import StructureFormat, export_structures, file_name
from gan_htvs.structures.symmetry import symmetry_of
from tests import documents
from tests.helpers import rocksalt

MIXED = Structure(
    Lattice.from_parameters(4.1, 4.6, 5.2, 80, 95, 101),
    ["O", "Mg", "O", "Mn"],
    [[0.1, 0.2, 0.3], [0.5, 0.5, 0.52], [0.9, 0.83, 0.71], [0.02, 0.6, 0.9]],
)
candidate = partial(
    documents.candidate, formula_pretty="MgMnO2", generated_structure=MIXED, structure=None
)


@pytest.mark.parametrize("structure_format", StructureFormat)
def test_files_contain_the_structures_listed_in_the_manifest(tmp_path, structure_format):
    stretched = MIXED.copy().apply_strain(0.02, inplace=False)
    candidates = [
        candidate("a", structure=stretched, energy_above_hull=0.01, level_of_theory="CHGNet-0.3.0"),
        candidate("b"),
    ]
    *paths, manifest = export_structures(candidates, tmp_path / "new", structure_format)
    matcher = StructureMatcher(primitive_cell=False, scale=False, ltol=0.001, stol=0.001)
    for path, expected in zip(paths, (stretched, MIXED), strict=True):
        atoms = read(path, format={"poscar": "vasp"}.get(structure_format, str(structure_format)))
        written = Structure(atoms.cell.array, atoms.get_chemical_symbols(), atoms.positions,
                            coords_are_cartesian=True)  # fmt: skip
        assert matcher.fit(written, expected)
    with manifest.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["candidate_id"] for row in rows] == ["a", "b"]
    assert [row["is_relaxed"] for row in rows] == ["True", "False"]
    assert rows[0]["energy_above_hull_eV_per_atom"] == "0.01"
    assert rows[0]["decomposition_energy_eV_per_atom"] == "0.01"
    assert rows[1]["level_of_theory"] == ""
    for path, row in zip(paths, rows, strict=True):
        assert row["file"] == path.name
        assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert export_structures(candidates, tmp_path / "new", structure_format) == [*paths, manifest]


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/abs", ".hidden", "a\x00b", "x" * 500, "c d"]
)
def test_unsafe_ids_give_files_inside_the_folder(tmp_path, name):
    folder = tmp_path / "inner"
    path, _ = export_structures([candidate(name)], folder, StructureFormat.CIF)
    assert path.resolve().parent == folder.resolve()
    assert path.name == file_name(candidate(name), StructureFormat.CIF)
    assert path.name.startswith("MgMnO2_")
    assert set(tmp_path.iterdir()) == {folder}


def test_manifest_lists_all_existing_files(tmp_path):
    export_structures([candidate("a"), candidate("b")], tmp_path, StructureFormat.CIF)
    (tmp_path / "MgMnO2_a.cif").unlink()
    export_structures([candidate("b", band_gap=2.0)], tmp_path, StructureFormat.CIF)
    export_structures([candidate("b")], tmp_path, StructureFormat.POSCAR)
    with (tmp_path / "manifest.csv").open() as file:
        rows = {row["file"]: row["band_gap_eV"] for row in csv.DictReader(file)}
    assert rows == {"MgMnO2_b.cif": "2.0", "MgMnO2_b.vasp": ""}


def test_foreign_manifest_is_not_overwritten(tmp_path):
    foreign = tmp_path / "manifest.csv"
    foreign.write_text("name,size\nx,1\n")
    with pytest.raises(UserError, match=r"manifest\.csv"):
        export_structures([candidate("a")], tmp_path, StructureFormat.CIF)
    assert [*tmp_path.iterdir()] == [foreign]


def test_file_names_of_long_formulas_are_distinct():
    names = {file_name(candidate(n, formula_pretty="Mg" * 99), StructureFormat.CIF) for n in "ab"}
    assert len(names) == 2


def test_export_of_no_candidates_writes_nothing(tmp_path):
    assert export_structures([], tmp_path / "new", StructureFormat.CIF) == []
    assert not (tmp_path / "new").exists()


def test_unwritable_folder_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        export_structures([candidate("a")], tmp_path / "file", StructureFormat.CIF)


def test_space_groups_in_cif_and_manifest(tmp_path):
    exported = [
        candidate(
            name,
            structure=structure,
            symmetry=symmetry_of(structure, 0.1),
            tight_symmetry=symmetry_of(structure, 0.01),
        )
        for name, structure in (("a", rocksalt()), ("b", rocksalt().perturb(0.02, seed=0)))
    ]
    *paths, manifest = export_structures(exported, tmp_path, StructureFormat.CIF)
    with manifest.open() as file:
        rows = list(csv.DictReader(file))
    for path, row, original in zip(paths, rows, exported, strict=True):
        symbol = original.tight_symmetry.symbol
        assert f"_symmetry_space_group_name_H-M   {symbol}\n" in path.read_text()
        assert StructureMatcher(scale=False).fit(Structure.from_file(path), original.structure)
        assert (row["space_group_0.1_A"], row["space_group_0.01_A"]) == ("Fm-3m", symbol)
    assert rows[0]["space_group_0.01_A"] == "Fm-3m" != rows[1]["space_group_0.01_A"]
