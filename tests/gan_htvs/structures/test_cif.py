"""CIF files that contradict themselves, and that other programs write."""

from __future__ import annotations

import re

import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.structures.cif import SAME_ATOM, merge_same_atoms, parse_cif
from gan_htvs.structures.matching import structure_matcher
from tests.helpers import rocksalt

FORSTERITE_LIKE = """
data_oxyhydroxide
_chemical_formula_sum '{formula}'
_cell_formula_units_Z 4
_symmetry_space_group_name_H-M 'P b n m'
_symmetry_Int_Tables_number 62
_cell_length_a 4.6
_cell_length_b 9.9
_cell_length_c 3.0
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_symmetry_equiv_pos_as_xyz
'x,y,z'
'-x,-y,z+1/2'
'-x+1/2,y+1/2,-z+1/2'
'x+1/2,-y+1/2,-z'
'-x,-y,-z'
'x,y,-z+1/2'
'x+1/2,-y+1/2,z+1/2'
'-x+1/2,y+1/2,z'
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Fe1 -0.04 0.15 0.25
O1 0.29 -0.20 0.25
{oxygen} -0.19 -0.05 0.25
"""

HEAD = """
data_layer
_cell_length_a 2.9
_cell_length_b 2.9
_cell_length_c 4.8
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
"""
SITES = """
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
"""
GROUP = "_symmetry_space_group_name_H-M 'P -3 m 1'\n"
NUMBER = "_symmetry_Int_Tables_number 164\n"
LAYER = "Mn1 0 0 0\nO1 0.3333333 0.6666667 0.21\n"


def structure_of(text: str) -> Structure:
    (parsed,) = parse_cif(text)
    if isinstance(parsed.structure, ValueError):
        raise parsed.structure
    return parsed.structure


def note_of(text: str) -> str:
    (parsed,) = parse_cif(text)
    return parsed.note


def test_layer_is_read():
    structure = structure_of(HEAD + GROUP + "_chemical_formula_sum 'Mn O2'" + SITES + LAYER)
    assert structure.composition.formula == "Mn1 O2"


@pytest.mark.parametrize("oxygen", ["O2", "OH2", "OH"])
def test_hydrogen_without_positions_is_reported(oxygen):
    with pytest.raises(ValueError, match=r"FeHO2.*FeO2.*H has no positions"):
        structure_of(FORSTERITE_LIKE.format(formula="Fe H O2", oxygen=oxygen))


def test_label_that_is_no_element_needs_a_formula_that_confirms_it():
    text = FORSTERITE_LIKE.format(formula="?", oxygen="OH2")
    with pytest.raises(ValueError, match=r"'OH2' names no element"):
        structure_of(text)
    assert len(structure_of(FORSTERITE_LIKE.format(formula="Fe O2", oxygen="OA"))) == 12


@pytest.mark.parametrize(
    ("label", "formula", "element"),
    [
        ("MN1", "?", "Mn"),
        ("Mn4+", "?", "Mn"),
        ("CO1", "Co O2", "Co"),
        ("CO1", "C O2", "C"),
        ("Mnoct", "Mn O2", "Mn"),
        ("mn1", "Mn O2", "Mn"),
    ],
)
def test_element_of_a_label(label, formula, element):
    sites = LAYER.replace("Mn1", label)
    text = HEAD + GROUP + f"_chemical_formula_sum '{formula}'" + SITES + sites
    assert structure_of(text).composition.reduced_formula == f"{element}O2"


def test_ambiguous_label_without_formula_is_reported():
    with pytest.raises(ValueError, match="CO1"):
        structure_of(HEAD + GROUP + SITES + LAYER.replace("Mn1", "CO1"))


@pytest.mark.parametrize("column", ["1", "?"])
def test_attached_hydrogens_are_not_forgotten(column):
    sites = SITES + "_atom_site_attached_hydrogens\n" + LAYER.replace("\n", f" {column}\n")
    if column == "?":
        assert len(structure_of(HEAD + GROUP + sites)) == 3
    else:
        with pytest.raises(ValueError, match="hydrogen"):
            structure_of(HEAD + GROUP + sites)


@pytest.mark.parametrize("statement", ["", "_cell_formula_units_Z 1\n"])
def test_missing_operations_are_reported(statement):
    """Half of the oxygen is missing, or one of two parts of the cell with the same formula."""
    identity = "loop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n"
    with pytest.raises(ValueError, match=r"MnO2.*MnO"):
        structure_of(
            HEAD + GROUP + "_chemical_formula_sum 'Mn O2'\n" + statement + identity + SITES + LAYER
        )
    with pytest.raises(ValueError, match="1 symmetry operations"):
        structure_of(HEAD + GROUP + NUMBER + identity + SITES + LAYER)
    half = HEAD + "_symmetry_Int_Tables_number 2\n_chemical_formula_sum 'Mn2 O4'\n" + statement
    sites = "Mn1 0.1 0.1 0.1\nO1 0.4 0.6 0.3\nO2 0.7 0.2 0.4\n"
    with pytest.raises(ValueError, match=r"3 atoms, its formula"):
        structure_of(half.replace("Z 1", "Z 2") + identity + SITES + sites)


def test_all_atoms_with_the_identity_only_are_read():
    text = rocksalt().to(fmt="cif").replace("'P 1'", "Fm-3m").replace("number   1", "number   225")
    assert len(structure_of(text)) == 2


@pytest.mark.parametrize(
    ("x", "y", "largest"),
    [("0.333", "0.667", 0.002), ("0.33", "0.67", 0.03), ("0.3333", "0.6667", 0)],
)
def test_coordinates_with_few_digits_are_one_atom(x, y, largest):
    sites = f"Mn1 0 0 0\nO1 {x} {y} 0.21\n"
    text = HEAD + GROUP + "_chemical_formula_sum 'Mn O2'" + SITES + sites
    assert structure_of(text).composition.formula == "Mn1 O2"
    exact = structure_of(HEAD + GROUP + SITES + LAYER)
    assert structure_matcher().get_rms_dist(structure_of(text), exact)[0] < 0.01
    note = note_of(text)
    assert bool(note) == bool(largest)
    if note:
        assert float(re.search(r"([\d.]+) A", note)[1]) <= largest


def test_only_sites_of_one_element_within_the_limit_are_merged():
    lattice = Lattice.cubic(4)
    coords = [[0, 0, 0], [0, 0, 0.98 * SAME_ATOM / 4], [0, 0, 0.5], [0, 0.02, 0.5]]
    merged, displacement = merge_same_atoms(Structure(lattice, ["Mg", "Mg", "O", "F"], coords))
    assert [site.specie.symbol for site in merged] == ["Mg", "O", "F"]
    assert displacement == pytest.approx(0.49 * SAME_ATOM)
    apart = Structure(lattice, ["Mg", "Mg"], [[0, 0, 0], [0, 0, 1.1 * SAME_ATOM / 4]])
    assert merge_same_atoms(apart) == (apart, 0.0)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("_cell_length_a 2.9", "_cell_length_a ?", "_cell_length_a"),
        ("_cell_length_a 2.9", "_cell_length_a 2,9", "'2,9'"),
        ("_cell_length_a 2.9", "_cell_length_a 3.4", "contradicts its cell"),
        ("_cell_angle_gamma 120", "_cell_angle_gamma 190", "impossible"),
        ("0.21", "?", "no position"),
        ("0.21", "1/5", "'1/5'"),
        ("0.21", "", "columns"),
        ("O1 ", "O1 O ", "columns"),
        ("'P -3 m 1'", "'P -3 m q'", "unknown"),
        ("'P -3 m 1'", "P -3 m 1", "several values"),
        ("'Mn O2'", "'Mn Oxide'", "formula"),
        ("'Mn O2'", "'Mn2 O7'", "Mn2O7"),
        ("data_layer", "data_layer\n_cell_volume 99", "volume"),
        ("data_layer", "data_layer\n_cell_length_a 3.1", "more than once"),
        ("data_layer", "data_layer\n_cell_modulation_dimension 1", "modulated"),
        ("O1 0.3333333 0.6666667 0.21", "O1 0 0 0", "same position"),
    ],
)
def test_true_reason(old, new, reason):
    text = HEAD + GROUP + "_chemical_formula_sum 'Mn O2'" + SITES + LAYER
    assert old in text
    with pytest.raises(ValueError, match=re.escape(reason)):
        structure_of(text.replace(old, new, 1))


@pytest.mark.parametrize(
    "text",
    [
        HEAD.upper() + GROUP.replace("_symmetry", "_SYMMETRY") + SITES.upper() + LAYER,
        (HEAD + GROUP + SITES + LAYER).replace("_cell_", "_cell.").replace("site_fr", "site.fr"),
        HEAD + NUMBER + SITES + LAYER,
        HEAD + GROUP + "_publ_text\n;\nTITL x\ndata_other\nloop_\n;\n" + SITES + LAYER,
        "data_global\n_journal_year 1999\n"
        + HEAD
        + GROUP
        + "loop_\n_a\n_b\n1 2 3\n"
        + SITES
        + LAYER,
        HEAD + GROUP + "loop_\n_citation_id\n" + SITES + LAYER,
        (HEAD + GROUP + SITES + LAYER).replace("2.9\n", "2.9(1)\n").replace("0.21", "0.2100(3)"),
        HEAD + GROUP + SITES + "_atom_site_occupancy\n" + LAYER.replace("\n", " .\n"),
        HEAD + GROUP + "_chemical_formula_sum\n;\nMn\nO2\n;\n" + SITES + LAYER,
        HEAD + GROUP + "_chemical_formula_sum 'MN O2'" + SITES + LAYER,
    ],
)
def test_spellings_of_one_crystal(text):
    assert structure_of(text).composition.formula == "Mn1 O2"


def test_magnetic_operations_without_time_reversal():
    text = (
        HEAD
        + "loop_\n_space_group_symop_magn_operation.id\n_space_group_symop_magn_operation.xyz\n"
        + "1 x,y,z,+1\n2 -x,-y,-z,+1\n"
        + "loop_\n_space_group_symop_magn_centering.id\n_space_group_symop_magn_centering.xyz\n"
        + "1 x,y,z,+1\n2 x,y,z+1/2,-1\n"
        + "loop_\n_atom_site_moment.label\n_atom_site_moment.crystalaxis_x\nMn1 3.0\n"
    )
    structure = structure_of(
        text.replace("c 4.8", "c 9.6") + SITES + LAYER.replace("0.21", "0.105")
    )
    assert structure.composition.formula == "Mn2 O4"


def test_all_blocks_are_parsed_and_reasons_belong_to_one_block():
    broken = (HEAD + GROUP + SITES + LAYER).replace("layer", "bad").replace("O1 0", "O1 ?")
    first, second = parse_cif(broken + HEAD + GROUP + SITES + LAYER)
    assert (first.name, second.name) == ("bad", "layer")
    assert isinstance(first.structure, ValueError)
    assert len(second.structure) == 3


def test_file_without_symmetry_is_read_with_a_note():
    assert "no symmetry" in note_of(HEAD + SITES + LAYER)


def test_partly_occupied_sites_are_kept_for_the_caller():
    sites = SITES + "_atom_site_occupancy\n" + LAYER.replace("\n", " 0.5\n")
    assert not structure_of(HEAD + GROUP + sites).is_ordered
