from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.core.hashing import content_hash, content_uuid


def rocksalt(a: float) -> Structure:
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(a), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )


def test_a_database_round_trip_keeps_the_name():
    structure = rocksalt(4.2112345678901)
    again = Structure.from_dict(structure.as_dict())
    again.translate_sites([0], [1e-12, 0, 0], to_unit_cell=False)
    assert content_hash(structure) == content_hash(again)


@pytest.mark.parametrize("noise", [1e-17, -1e-17, 1e-9, -1e-9])
def test_the_last_digits_of_another_processor_keep_the_name(noise):
    structure = rocksalt(4.2)
    other = Structure(
        structure.lattice.matrix + noise, structure.species, structure.frac_coords + noise
    )
    around = Structure(structure.lattice, structure.species, structure.frac_coords + 1 + noise)
    assert content_hash(structure) == content_hash(other) == content_hash(around)


def test_different_content_has_different_names():
    assert content_uuid("relax", rocksalt(4.2)) != content_uuid("relax", rocksalt(4.3))
    assert content_uuid("relax", rocksalt(4.2)) != content_uuid("static", rocksalt(4.2))
