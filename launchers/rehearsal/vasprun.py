"""Parts of vasprun.xml, which is written step by step, so it is incomplete after a crash.

Contains the elements that pymatgen's ``Vasprun`` and ASE's reader of VASP files use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from launchers.rehearsal.labels import NOTICE, PROGRAM, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from launchers.rehearsal.calculation import IonicStep
    from launchers.rehearsal.inputs import Inputs
    from launchers.rehearsal.spectrum import Spectrum

ENERGIES = ("e_fr_energy", "e_wo_entrp", "e_0_energy")
"""Names of the energies of a step: free energy, without entropy, extrapolated to sigma = 0."""

TYPES = {bool: ' type="logical"', int: ' type="int"', float: "", str: ' type="string"'}
"""XML attribute with VASP's name of a type."""


def opening(inputs: Inputs) -> str:
    """Return everything before the first ionic step."""
    generator = {"program": PROGRAM, "version": VERSION, "subversion": NOTICE}
    parameters = inputs.parameters | {"MAGMOM": inputs.moments.tolist()}
    counts, symbols = inputs.poscar.natoms, inputs.poscar.site_symbols
    atoms = [
        [symbol, n]
        for n, (symbol, count) in enumerate(zip(symbols, counts, strict=True), 1)
        for _ in range(count)
    ]
    types = [
        [count, symbol, single.POMASS, single.ZVAL, single.header]
        for symbol, count, single in zip(symbols, counts, inputs.potcar, strict=True)
    ]
    type_fields = ("atomspertype", "element", "mass", "valence", "pseudopotential")
    return f"""\
<?xml version="1.0" encoding="UTF-8"?>
<modeling>
{_element("generator", *_items(generator))}
{_element("incar", *_items(inputs.incar))}
<kpoints>
{_varray("kpointlist", inputs.points)}
{_varray("weights", inputs.weights[:, None])}
</kpoints>
{_element("parameters", _element("separator", *_items(parameters), name="general"))}
<atominfo>
<atoms>{sum(counts)}</atoms>
<types>{len(types)}</types>
{_atom_table("atoms", ("element", "atomtype"), atoms)}
{_atom_table("atomtypes", type_fields, types)}
</atominfo>
{_structure(inputs.structure, name="initialpos")}"""


def ionic_step(step: IonicStep, spectrum: Spectrum | None) -> str:
    """Return an ionic step; the last one includes its bands."""
    electronic_steps = [_items(dict.fromkeys(ENERGIES, float(energy))) for energy in step.energies]
    parts = [
        *(_element("scstep", _element("energy", *items)) for items in electronic_steps),
        _structure(step.structure),
        _varray("forces", step.forces),
        _varray("stress", step.stress),
        _element("energy", *electronic_steps[-1]),
    ]
    if spectrum is not None:
        bands = np.stack([spectrum.energies, spectrum.occupations], axis=-1)
        levels = [
            [
                _element("set", *_rows(rows, "r"), comment=f"kpoint {n}")
                for n, rows in enumerate(points, 1)
            ]
            for points in bands
        ]
        densities = [_rows(rows, "r") for rows in spectrum.dos]
        dos = _spin_table(("energy", "total", "integrated"), densities)
        parts += [
            _element("eigenvalues", _spin_table(("eigene", "occ"), levels)),
            _element("dos", *_items({"efermi": spectrum.efermi}), _element("total", dos)),
        ]
    return _element("calculation", *parts)


def closing(structure: Structure) -> str:
    """Return the end of the file, with the last structure."""
    return _structure(structure, name="finalpos") + "\n</modeling>"


def _element(tag: str, *content: str, **attributes: str) -> str:
    text = "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items())
    return "\n".join([f"<{tag}{text}>", *content, f"</{tag}>"])


def _items(values: Mapping[str, Any]) -> list[str]:
    """Return an ``<i>`` for each value, or ``<v>`` for a list, with VASP's type attribute."""
    items = []
    for name, value in values.items():
        is_list = isinstance(value, list | tuple)
        numbers = value if is_list else [value]
        types = {type(number) for number in numbers}
        kind = types.pop() if len(types) == 1 else float
        if kind is bool:
            texts = ["T" if number else "F" for number in numbers]
        elif kind is str:
            texts = [escape(text) for text in numbers]
        else:
            texts = [f"{number:.10g}" for number in numbers]
        tag = "v" if is_list else "i"
        items.append(f"<{tag}{TYPES[kind]} name={quoteattr(name)}>{' '.join(texts)}</{tag}>")
    return items


def _structure(structure: Structure, **attributes: str) -> str:
    crystal = _element("crystal", _varray("basis", structure.lattice.matrix))
    positions = _varray("positions", structure.frac_coords)
    return _element("structure", crystal, positions, **attributes)


def _varray(name: str, rows: NDArray[np.float64]) -> str:
    return _element("varray", *_rows(rows, "v"), name=name)


def _rows(rows: NDArray[np.float64], tag: str) -> list[str]:
    return [f"<{tag}>{' '.join(f'{value:16.8f}' for value in row)}</{tag}>" for row in rows]


def _atom_table(name: str, fields: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    heads = [
        f"<field{TYPES[type(cell)]}>{field}</field>"
        for field, cell in zip(fields, rows[0], strict=True)
    ]
    cells = ["".join(f"<c>{escape(str(cell))}</c>" for cell in row) for row in rows]
    content = _element("set", *(f"<rc>{row}</rc>" for row in cells))
    return _element("array", *heads, content, name=name)


def _spin_table(fields: Iterable[str], spins: Iterable[Iterable[str]]) -> str:
    sets = (_element("set", *rows, comment=f"spin {n}") for n, rows in enumerate(spins, 1))
    content = _element("set", *sets)
    return _element("array", *(f"<field>{field}</field>" for field in fields), content)
