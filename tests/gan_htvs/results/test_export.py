from __future__ import annotations

import csv
import hashlib
from datetime import UTC, datetime

import pytest
from ase.io import read
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from gan_htvs.core.candidate import Candidate, Origin
from gan_htvs.core.errors import UserError
from gan_htvs.core.stages import Stage
from gan_htvs.results.export import StructureFormat, export_structures, file_name

MIXED = Structure(
    Lattice.from_parameters(4.1, 4.6, 5.2, 80, 95, 101),
    ["O", "Mg", "O", "Mn"],
    [[0.1, 0.2, 0.3], [0.5, 0.5, 0.52], [0.9, 0.83, 0.71], [0.02, 0.6, 0.9]],
)


def candidate(name: str, **fields) -> Candidate:
    return Candidate(
        **{
            "candidate_id": name,
            "campaign": "test",
            "stage": Stage.STABLE,
            "origin": Origin(proposer="gan", requested_composition="MgMnO2", index=0),
            "formula_pretty": "MgMnO2",
            "chemsys": "Mg-Mn-O",
            "nsites": 4,
            "generated_structure": MIXED,
            "last_updated": datetime.now(UTC),
        }
        | fields
    )


@pytest.mark.parametrize("form", StructureFormat)
def test_files_hold_the_structures_and_the_manifest_tells_which(tmp_path, form):
    stretched = MIXED.copy().apply_strain(0.02, inplace=False)
    found = [
        candidate("a", structure=stretched, energy_above_hull=0.01, level_of_theory="CHGNet-0.3.0"),
        candidate("b"),
    ]
    *paths, manifest = export_structures(found, tmp_path / "new", form)
    matcher = StructureMatcher(primitive_cell=False, scale=False, ltol=0.001, stol=0.001)
    for path, expected in zip(paths, (stretched, MIXED), strict=True):
        atoms = read(path, format={"poscar": "vasp"}.get(form, str(form)))
        written = Structure(atoms.cell.array, atoms.get_chemical_symbols(), atoms.positions,
                            coords_are_cartesian=True)  # fmt: skip
        assert matcher.fit(written, expected)
    with manifest.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["candidate_id"] for row in rows] == ["a", "b"]
    assert [row["is_relaxed"] for row in rows] == ["True", "False"]
    assert rows[0]["energy_above_hull_eV_per_atom"] == "0.01"
    assert rows[1]["level_of_theory"] == ""
    for path, row in zip(paths, rows, strict=True):
        assert row["file"] == path.name
        assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert export_structures(found, tmp_path / "new", form) == [*paths, manifest]


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/abs", ".hidden", "a\x00b", "x" * 500, "c d"]
)
def test_no_name_leaves_its_folder(tmp_path, name):
    folder = tmp_path / "inner"
    path, _ = export_structures([candidate(name)], folder, StructureFormat.CIF)
    assert path.resolve().parent == folder.resolve()
    assert path.name == file_name(candidate(name), StructureFormat.CIF)
    assert path.name.startswith("MgMnO2_")
    assert set(tmp_path.iterdir()) == {folder}


def test_the_manifest_tells_of_all_files_that_are_there(tmp_path):
    export_structures([candidate("a"), candidate("b")], tmp_path, StructureFormat.CIF)
    (tmp_path / "MgMnO2_a.cif").unlink()
    export_structures([candidate("b", band_gap=2.0)], tmp_path, StructureFormat.CIF)
    export_structures([candidate("b")], tmp_path, StructureFormat.POSCAR)
    with (tmp_path / "manifest.csv").open() as file:
        rows = {row["file"]: row["band_gap_eV"] for row in csv.DictReader(file)}
    assert rows == {"MgMnO2_b.cif": "2.0", "MgMnO2_b.vasp": ""}


def test_a_manifest_of_somebody_else_stays(tmp_path):
    theirs = tmp_path / "manifest.csv"
    theirs.write_text("name,size\nx,1\n")
    with pytest.raises(UserError, match="was not written by an export; choose another folder"):
        export_structures([candidate("a")], tmp_path, StructureFormat.CIF)
    assert [*tmp_path.iterdir()] == [theirs]


def test_two_candidates_have_two_files_however_long_a_formula_is():
    names = {file_name(candidate(n, formula_pretty="Mg" * 99), StructureFormat.CIF) for n in "ab"}
    assert len(names) == 2


def test_nothing_is_written_for_nobody(tmp_path):
    assert export_structures([], tmp_path / "new", StructureFormat.CIF) == []
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose a writable folder"):
        export_structures([candidate("a")], tmp_path / "file", StructureFormat.CIF)
