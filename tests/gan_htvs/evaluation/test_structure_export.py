from __future__ import annotations

import zipfile

import pytest
from ase.io import read
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from gan_htvs.core.errors import UserError
from gan_htvs.evaluation.structure_export import export_structures
from gan_htvs.structures.structure_files import read_crystals

from .conftest import LEAD_OXIDE, WURTZITE

NAMED = {"MgO-0": WURTZITE, "MgO-1": LEAD_OXIDE}


def test_exports_are_read_by_other_programs(tmp_path):
    frames, archive = export_structures(NAMED, tmp_path / "new", "gan-samples")
    read_back = [AseAtomsAdaptor.get_structure(atoms) for atoms in read(frames, ":")]
    with zipfile.ZipFile(archive) as content:
        assert content.namelist() == ["MgO-0.cif", "MgO-1.cif"]
        parsed = [Structure.from_str(content.read(n).decode(), "cif") for n in content.namelist()]
    for structures in (read_back, parsed):
        for structure, exported in zip(structures, NAMED.values(), strict=True):
            assert structure.lattice.parameters == pytest.approx(exported.lattice.parameters)
            distances = structure.distance_matrix.max(), exported.distance_matrix.max()
            assert distances[0] == pytest.approx(distances[1], abs=1e-5)
    assert len(read_crystals(archive, "STRUCTURES").structures) == 2
    assert len(read_crystals(frames, "STRUCTURES").structures) == 2


def test_equal_structures_have_equal_files(tmp_path):
    first, second = (export_structures(NAMED, tmp_path / name, "s") for name in "ab")
    for path, other in zip(first, second, strict=True):
        assert path.read_bytes() == other.read_bytes()


def test_unwritable_folder_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        export_structures(NAMED, tmp_path / "file", "s")
