"""Crystals of CIF files, compared with the formula, atoms and symmetry that the file states."""

from __future__ import annotations

import re
import warnings
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import spglib
from pymatgen.core import Composition, Element, Lattice, Structure
from pymatgen.core.operations import SymmOp
from pymatgen.io.cif import CifParser
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gan_htvs.structures.cif_syntax import UNKNOWN, CifBlock, parse_blocks, to_number
from gan_htvs.structures.symmetry import N_HALL_SETTINGS
from gan_htvs.structures.validity import MAX_EDGE, SEARCH_RADIUS, possible_cells

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SAME_ATOM = 0.1
"""Sites of one element closer than this are one atom, whose coordinates have few digits, A."""

VOLUME_TOLERANCE = 0.02
"""Relative difference between the stated volume and that of the cell."""
METRIC_TOLERANCE = 0.02
"""Relative difference between the squares of the cell before and after a symmetry operation."""
FORMULA_TOLERANCE = 0.005
"""Difference between the atomic fractions of the formula and of the sites."""

_CELL = (
    *(f"_cell_length_{axis}" for axis in "abc"),
    *(f"_cell_angle_{angle}" for angle in ("alpha", "beta", "gamma")),
)
_POSITIONS = tuple(f"_atom_site_fract_{axis}" for axis in "xyz")
_OPERATIONS = (
    "_space_group_symop_operation_xyz",
    "_symmetry_equiv_pos_as_xyz",
    "_space_group_symop_magn_operation_xyz",
)
_GROUP_NAMES = (
    "_space_group_name_h-m_alt",
    "_symmetry_space_group_name_h-m",
    "_space_group_name_h-m_ref",
    "_space_group_name_h-m_full",
)
_GROUP_NUMBERS = ("_space_group_it_number", "_symmetry_int_tables_number")
_OTHER_GROUPS = (
    "_space_group_name_hall",
    "_symmetry_space_group_name_hall",
    "_space_group_magn_name_bns",
    "_space_group_magn_number_bns",
)
_MODULATED = ("_cell_modulation_dimension", "_cell_wave_vector_x", "_cell_wave_vector_seq_id")


class CifStructure(NamedTuple):
    """A data block of a CIF with atoms."""

    name: str
    """Name of the block."""
    structure: Structure | ValueError
    """The crystal, or the reason why it cannot be read."""
    note: str = ""
    """What was changed, with its size; empty if nothing was changed."""


def parse_cif(text: str) -> Iterator[CifStructure]:
    """Parse every data block of a CIF that has a cell or atoms.

    Raises
    ------
    ValueError
        If there is no such block, or the syntax is invalid.
    """
    is_empty = True
    for block in parse_blocks(text):
        tags = block.columns.keys() | block.broken.keys()
        if not tags & {*_CELL, *_POSITIONS}:
            continue
        is_empty = False
        try:
            structure, note = _structure_of(block)
        except ValueError as error:
            yield CifStructure(block.name, error)
        else:
            yield CifStructure(block.name, structure, note)
    if is_empty:
        raise ValueError("no data block has a cell and atoms")


def _structure_of(block: CifBlock) -> tuple[Structure, str]:
    """Return the crystal of a block and a note on changes, or raise ValueError."""
    if any(block.value(tag) not in (None, "0") for tag in _MODULATED):
        raise ValueError("it is modulated, which is not supported")
    lattice, formula = _lattice(block), _formula(block)
    sites = _sites(block, set(formula or ()))
    operations = _operations(block)
    structure, used = _expand(lattice, sites, operations, block)
    _check_metric(lattice, used)
    notes = []
    if len(used) == 1 and not operations and _group(block) is None:
        notes.append("it states no symmetry, so its atoms were read as those of the whole cell")
    if structure.is_ordered:
        merged, displacement = merge_same_atoms(structure)
        if len(merged) < len(structure):
            notes.append(
                f"{len(structure)} sites were merged into {len(merged)}; each moved by "
                f"{displacement:.3f} A at most"
            )
        structure = merged
        if formula is not None:
            _check_composition(structure.composition, formula)
        if not _has_stated_number(block, len(structure), formula):
            _check_completeness(block, len(used))
    return structure, "; ".join(notes)


def _lattice(block: CifBlock) -> Lattice:
    parameters = [_number(block, tag) for tag in _CELL]
    if not possible_cells([parameters])[0] or max(parameters[:3]) > MAX_EDGE:
        raise ValueError(
            "its cell (" + ", ".join(f"{value:g}" for value in parameters) + ") is impossible"
        )
    lattice = Lattice.from_parameters(*parameters)
    if (volume := block.value("_cell_volume")) is not None:
        stated = to_number(volume)
        if abs(stated - lattice.volume) > VOLUME_TOLERANCE * lattice.volume:
            raise ValueError(f"its volume is {stated:g} A^3, its cell has {lattice.volume:.1f} A^3")
    return lattice


def _number(block: CifBlock, tag: str) -> float:
    if (value := block.value(tag)) is None:
        raise ValueError(f"it has no {tag}")
    try:
        return to_number(value)
    except ValueError as error:
        raise ValueError(f"{tag}: {error}") from error


def _formula(block: CifBlock) -> Composition | None:
    """Return the stated formula, with hydrogen for its isotopes; None if there is none."""
    if (text := block.value("_chemical_formula_sum")) is None:
        return None
    for spelling in (text, text.title()):
        parts = re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", spelling)
        if "".join(map("".join, parts)) != re.sub(r"\s", "", spelling):
            continue
        if all(Element.is_valid_symbol(symbol) for symbol, _ in parts):
            amounts = Composition()
            for symbol, amount in parts:
                isotope = "H" if symbol in ("D", "T") else symbol
                amounts += Composition({isotope: float(amount.strip(".") or 1)})
            if len(amounts):
                return amounts
    raise ValueError(f"its formula {text!r} cannot be read")


def _sites(block: CifBlock, formula: set[Element]) -> list[tuple[str, list[str], str]]:
    """Return element, fractional coordinates and occupancy of each atom of the table."""
    columns = [block.column(tag) for tag in _POSITIONS]
    if not columns[0]:
        raise ValueError("it has no atoms with fractional coordinates")
    labels = block.column("_atom_site_label", "_atom_site_type_symbol")
    kinds = block.column("_atom_site_type_symbol") or labels
    occupancies = block.column("_atom_site_occupancy") or ["1"] * len(labels)
    hydrogens = block.column("_atom_site_attached_hydrogens")
    if any(len(column) != len(labels) for column in (*columns, kinds, occupancies)) or not labels:
        raise ValueError("its atoms lack labels or coordinates")
    symbols = {str(element) for element in formula}
    sites = []
    for i, label in enumerate(labels):
        kind = label if kinds[i] in UNKNOWN else kinds[i]
        position = [column[i] for column in columns]
        if any(value in UNKNOWN for value in position):
            raise ValueError(f"atom {label} has no position")
        try:
            numbers = [repr(to_number(value)) for value in position]
            occupancy = 1.0 if occupancies[i] in UNKNOWN else to_number(occupancies[i])
        except ValueError as error:
            raise ValueError(f"atom {label}: {error}") from error
        if occupancy <= 0:
            raise ValueError(f"atom {label} has the occupancy {occupancy:g}")
        sites.append((_element(kind, symbols), numbers, repr(occupancy)))
    attached = [value for value in hydrogens if value not in UNKNOWN and to_number(value)]
    if attached:
        raise ValueError("hydrogen atoms have no positions (_atom_site_attached_hydrogens)")
    return sites


def _element(kind: str, formula: set[str]) -> str:
    """Return the element of a label or type symbol: 'Mn1', 'O2-', 'MN', 'OW'."""
    letters = re.match(r"[A-Za-z]*", kind)
    text = letters[0] if letters else ""
    if re.fullmatch(r"[A-Z][a-z]?", text) and Element.is_valid_symbol(text):
        return "H" if text in ("D", "T") else text
    candidates = [
        symbol
        for symbol in dict.fromkeys((text[:2].title(), text[:1].upper()))
        if symbol and Element.is_valid_symbol(symbol)
    ]
    stated = [symbol for symbol in candidates if symbol in formula]
    # Without a formula, further letters are not understood, and CO is cobalt or carbon.
    chosen = stated[:1] or (candidates if len(text) <= len("".join(candidates)) else [])
    if len(chosen) != 1:
        raise ValueError(
            f"{kind!r} names no element; give _atom_site_type_symbol and _chemical_formula_sum"
        )
    return "H" if chosen[0] in ("D", "T") else chosen[0]


def _operations(block: CifBlock) -> list[str]:
    """Return the listed symmetry operations as text, without time reversal."""
    listed = [text for text in block.column(*_OPERATIONS) if text not in UNKNOWN]
    centerings = [
        _operation(text) for text in block.column("_space_group_symop_magn_centering_xyz")
    ]
    operations = [_operation(text) for text in listed]
    if centerings:
        operations = [
            SymmOp.from_rotation_and_translation(
                operation.rotation_matrix,
                operation.translation_vector + centering.translation_vector,
            )
            for operation in operations
            for centering in centerings
        ]
    return list(dict.fromkeys(operation.as_xyz_str() for operation in operations))


def _operation(text: str) -> SymmOp:
    parts = text.lower().replace(" ", "").split(",")
    if len(parts) == 4 and parts[3] in ("1", "+1", "-1"):  # noqa: PLR2004 - with time reversal
        parts = parts[:3]
    term = r"[+-]?(\d+(\.\d*)?(/\d+)?|\.\d+|[xyz])"
    if len(parts) == 3 and all(re.fullmatch(f"({term})+", part) for part in parts):  # noqa: PLR2004
        try:
            operation = SymmOp.from_xyz_str(",".join(parts))
        except (ValueError, ZeroDivisionError):
            operation = None
        if operation is not None and np.isclose(abs(np.linalg.det(operation.rotation_matrix)), 1):
            return operation
    raise ValueError(f"its symmetry operation {text!r} cannot be read")


def _group(block: CifBlock) -> str | None:
    return block.value(*_GROUP_NAMES, *_GROUP_NUMBERS, *_OTHER_GROUPS)


def _expand(
    lattice: Lattice,
    sites: Sequence[tuple[str, list[str], str]],
    operations: Sequence[str],
    block: CifBlock,
) -> tuple[Structure, list[SymmOp]]:
    """Apply the symmetry operations; return the crystal and the operations."""
    lines = ["data_crystal"]
    for tag, value in zip(_CELL, lattice.parameters, strict=True):
        lines.append(f"{tag} {value!r}")
    name, number = block.value(*_GROUP_NAMES), block.value(*_GROUP_NUMBERS)
    if operations:
        lines += ["loop_", "_symmetry_equiv_pos_as_xyz", *(f"'{text}'" for text in operations)]
    else:
        if name is not None:
            name = re.sub(r"[\"';]", "", name)
            lines.append(f'_symmetry_space_group_name_H-M "{name}"')
        if number is not None:
            lines.append(f"_symmetry_Int_Tables_number {to_number(number):.0f}")
    lines += ["loop_", "_atom_site_label", "_atom_site_type_symbol"]
    lines += [f"_atom_site_fract_{axis}" for axis in "xyz"] + ["_atom_site_occupancy"]
    for i, (symbol, position, occupancy) in enumerate(sites):
        lines.append(" ".join([f"{symbol}{i}", symbol, *position, occupancy]))
    with warnings.catch_warnings(action="ignore"):  # checked here, with clearer reasons
        parser = CifParser.from_str("\n".join(lines) + "\n", check_cif=False)
        try:
            structure = parser.parse_structures(primitive=False, on_error="raise")[0]
        except ValueError as error:
            if "ccupanc" in str(error):
                raise ValueError("several atoms have the same position") from error
            raise
    found = " ".join(parser.warnings)
    if not operations and (group := _group(block)) is not None:
        is_default = "Defaulting to P1" in found
        from_name = "Spacegroup from" in found
        if is_default or (name is not None and ":" in name and not from_name):
            raise ValueError(
                f"it lists no symmetry operations, and its space group {group!r} is unknown"
            )
    return structure, list(parser.symmetry_operations)


def _check_metric(lattice: Lattice, operations: Sequence[SymmOp]) -> None:
    metric = lattice.matrix @ lattice.matrix.T
    for operation in operations:
        rotated = operation.rotation_matrix.T @ metric @ operation.rotation_matrix
        if np.abs(rotated - metric).max() > METRIC_TOLERANCE * metric.max():
            raise ValueError(
                f"its symmetry operation {operation.as_xyz_str()!r} contradicts its cell"
            )


def merge_same_atoms(structure: Structure) -> tuple[Structure, float]:
    """Merge sites of one element that are closer than :data:`SAME_ATOM`.

    Parameters
    ----------
    structure
        Ordered crystal.

    Returns
    -------
    The crystal with the mean positions, and the largest distance of a site from its mean, A.
    """
    first, second, _, distances = structure.get_neighbor_list(SEARCH_RADIUS)
    species = np.array([site.specie.symbol for site in structure])
    is_same = (distances < SAME_ATOM) & (species[first] == species[second]) & (first != second)
    if not is_same.any():
        return structure, 0.0
    n_sites = len(structure)
    pairs = coo_array(
        (np.ones(is_same.sum()), (first[is_same], second[is_same])), shape=(n_sites, n_sites)
    )
    _, groups = connected_components(pairs, directed=False)
    coords, symbols, displacement = [], [], 0.0
    for group in dict.fromkeys(groups):
        members = structure.frac_coords[groups == group]
        moves = members - members[0]
        moves -= moves.round()
        center = moves.mean(axis=0)
        distances = np.linalg.norm((moves - center) @ structure.lattice.matrix, axis=1)
        displacement = max(displacement, float(distances.max()))
        coords.append(members[0] + center)
        symbols.append(species[groups == group][0])
    return Structure(structure.lattice, symbols, coords), displacement


def _check_composition(sites: Composition, formula: Composition) -> None:
    found = Composition({element.symbol: amount for element, amount in sites.items()})
    elements = set(found) | set(formula)
    differs = max(
        abs(found.get_atomic_fraction(e) - formula.get_atomic_fraction(e)) for e in elements
    )
    missing = sorted(str(element) for element in set(formula) - set(found))
    if missing or set(found) - set(formula) or differs > FORMULA_TOLERANCE:
        lacks = f", so {', '.join(missing)} has no positions" if missing else ""
        raise ValueError(
            f"its formula is {formula.reduced_formula}, its sites make "
            f"{found.reduced_formula}{lacks}"
        )


def _has_stated_number(block: CifBlock, n_atoms: int, formula: Composition | None) -> bool:
    """Return whether formula and Z confirm the number of atoms; False if they state none.

    Raises
    ------
    ValueError
        If they contradict it.
    """
    if formula is None:
        return False
    reduced, factor = formula.get_integer_formula_and_factor()
    n_formula, n_reduced = formula.num_atoms, Composition(reduced).num_atoms
    if (text := block.value("_cell_formula_units_z")) is None:
        if round(n_atoms - n_formula) < 0:
            raise ValueError(
                f"its sites make {n_atoms} atoms, its formula makes at least {n_formula:g}"
            )
        return False
    z = to_number(text)
    # pymatgen writes the formula of the cell, with the Z of the reduced formula.
    expected = z * (n_reduced if round(factor) == round(z) else n_formula)
    if all(round(n_atoms - z * n) for n in (n_formula, n_reduced)):
        raise ValueError(f"its sites make {n_atoms} atoms, its formula and Z make {expected:g}")
    return True


def _check_completeness(block: CifBlock, n_operations: int) -> None:
    """Raise ValueError if the block lists fewer operations than its space group has."""
    name, number = block.value(*_GROUP_NAMES), block.value(*_GROUP_NUMBERS)
    key = number if number is not None else re.sub(r"[\s_]|:.*", "", name or "")
    n_expected = _orders().get(key, 0)
    if n_operations < n_expected:
        raise ValueError(
            f"it lists {n_operations} symmetry operations, its space group "
            f"{name or number} has {n_expected}"
        )


@cache
def _orders() -> dict[str, int]:
    """Map number and symbols of each space group to the smallest number of its operations."""
    orders: dict[str, int] = {}
    for hall_number in range(1, N_HALL_SETTINGS + 1):
        kind = spglib.get_spacegroup_type(hall_number)
        order = len(spglib.get_symmetry_from_database(hall_number)["rotations"])
        names = (str(kind.number), kind.international_short, kind.international_full)
        for name in names:
            key = re.sub(r"[\s_]", "", name)
            orders[key] = min(order, orders.get(key, order))
    return orders
