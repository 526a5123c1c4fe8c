from __future__ import annotations

import pytest
from pymatgen.core import Structure

from gan_htvs.core.hashing import content_hash, content_uuid
from tests.helpers import rocksalt_cell


def test_database_round_trip_keeps_the_hash():
    structure = rocksalt_cell(length=4.2112345678901)
    again = Structure.from_dict(structure.as_dict())
    again.translate_sites([0], [1e-12, 0, 0], to_unit_cell=False)
    assert content_hash(structure) == content_hash(again)


@pytest.mark.parametrize("noise", [1e-17, -1e-17, 1e-9, -1e-9])
def test_rounding_errors_keep_the_hash(noise):
    structure = rocksalt_cell(length=4.2)
    other = Structure(
        structure.lattice.matrix + noise, structure.species, structure.frac_coords + noise
    )
    around = Structure(structure.lattice, structure.species, structure.frac_coords + 1 + noise)
    assert content_hash(structure) == content_hash(other) == content_hash(around)


def test_different_content_has_different_hashes():
    small, large = (rocksalt_cell(length=length) for length in (4.2, 4.3))
    assert content_uuid("relax", small) != content_uuid("relax", large)
    assert content_uuid("relax", small) != content_uuid("static", small)
