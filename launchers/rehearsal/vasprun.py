"""vasprun.xml, written step by step, so that it is incomplete after a crash.

The elements are those that pymatgen's ``Vasprun`` and ASE's reader of VASP files use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from launchers.rehearsal.labels import NOTICE, PROGRAM, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from launchers.rehearsal.calculation import IonicStep
    from launchers.rehearsal.inputs import Inputs
    from launchers.rehearsal.spectrum import Spectrum


class VasprunXml:
    """Write one vasprun.xml, step by step.

    Parameters
    ----------
    path
        Path of the file, which is overwritten.
    inputs
        Inputs of the calculation.
    """

    def __init__(self, path: Path, inputs: Inputs) -> None:
        self._inputs = inputs
        self._file = path.open("w", encoding="iso-8859-1")
        generator = {
            "program": PROGRAM,
            "version": VERSION,
            "subversion": NOTICE,
            "platform": "rehearsal",
        }
        self._write(
            '<?xml version="1.0" encoding="ISO-8859-1"?>',
            "<modeling>",
            *_element("generator", map(_item, generator, generator.values())),
            *_element("incar", map(_item, inputs.incar, inputs.incar.values())),
            *_kpoints(inputs),
            *_element("parameters", _separated(_parameters(inputs))),
            *_atominfo(inputs),
            *_structure(inputs.structure, "initialpos"),
        )

    def add(self, step: IonicStep, spectrum: Spectrum | None) -> None:
        """Add an ionic step, the last one with its bands."""
        names = ("e_fr_energy", "e_wo_entrp", "e_0_energy")
        lines: list[str] = []
        for energy in step.electronic_energies:
            items = _element("energy", (_item(name, float(energy)) for name in names))
            lines += _element("scstep", items)
        final = float(step.electronic_energies[-1])
        lines += _structure(step.structure)
        lines += _varray("forces", step.forces)
        lines += _varray("stress", step.stress)
        lines += _element("energy", (_item(name, final) for name in names))
        if spectrum is not None:
            lines += _eigenvalues(spectrum)
            lines += _dos(spectrum)
        self._write(*_element("calculation", lines))

    def close(self, structure: Structure) -> None:
        """End the file with the last structure."""
        self._write(*_structure(structure, "finalpos"), "</modeling>")
        self._file.close()

    def _write(self, *lines: str) -> None:
        self._file.write("\n".join(lines) + "\n")
        self._file.flush()


def _parameters(inputs: Inputs) -> dict[str, Any]:
    """Return the values of INCAR tags that readers need, including defaults."""
    incar = inputs.incar
    is_hybrid = inputs.is_hybrid
    defaults: dict[str, Any] = {
        "PREC": "normal",
        "ISYM": 3 if is_hybrid else 2,
        "SYMPREC": 1e-5,
        "ALGO": "Normal",
        "NELMIN": 2,
        "ISMEAR": 1,
        "SIGMA": 0.2,
        "NEDOS": 301,
        "ISTART": 0,
        "ICHARG": 2,
        "POTIM": 0.5,
        "LREAL": False,
        "LASPH": False,
        "LORBIT": 0,
        "LDAU": False,
        "GGA": "--",
        "METAGGA": "--",
        "LUSE_VDW": False,
        "AEXX": 0.25 if is_hybrid else 0.0,
        "AGGAX": 0.75 if is_hybrid else 1.0,
        "AGGAC": 1.0,
        "ALDAC": 1.0,
        "HFSCREEN": 0.0,
        "LEPSILON": False,
        "LCHIMAG": False,
        "LNONCOLLINEAR": False,
        "LWAVE": True,
        "LCHARG": True,
    }
    written = {key: value for key, value in incar.items() if key not in {"SYSTEM", "MAGMOM"}}
    return (
        defaults
        | written
        | {
            "NSW": max(0, incar.get("NSW", 0)),
            "IBRION": inputs.ibrion,
            "ISIF": incar.get("ISIF", 2),
            "EDIFF": inputs.ediff,
            "EDIFFG": inputs.ediffg,
            "NELM": inputs.nelm,
            "ENMAX": inputs.encut,
            "NELECT": inputs.n_electrons,
            "NBANDS": inputs.n_bands,
            "ISPIN": inputs.n_spins,
            "MAGMOM": [float(moment) for moment in inputs.moments],
            "LHFCALC": is_hybrid,
        }
    )


def _separated(parameters: Mapping[str, Any]) -> list[str]:
    items = map(_item, parameters, parameters.values())
    return ['<separator name="general">', *items, "</separator>"]


def _element(tag: str, lines: Iterable[str]) -> list[str]:
    return [f"<{tag}>", *lines, f"</{tag}>"]


def _item(name: str, value: Any) -> str:
    """Return ``<i>``, or ``<v>`` for a list, with the type of VASP."""
    values = value if isinstance(value, list | tuple) else [value]
    kinds = {type(item) for item in values}
    if kinds == {bool}:
        kind, texts = ' type="logical"', ["T" if item else "F" for item in values]
    elif kinds == {int}:
        kind, texts = ' type="int"', [str(item) for item in values]
    elif kinds <= {int, float}:
        kind, texts = "", [f"{float(item):.10g}" for item in values]
    else:
        kind, texts = ' type="string"', [escape(str(item)) for item in values]
    tag = "i" if values is not value else "v"
    return f"<{tag}{kind} name={quoteattr(name)}>{' '.join(texts)}</{tag}>"


def _kpoints(inputs: Inputs) -> list[str]:
    kpoints = inputs.kpoints
    lines: list[str] = []
    if kpoints.mesh is not None:
        is_gamma = not any(kpoints.shift)
        lines += [
            f'<generation param="{"Gamma" if is_gamma else "Monkhorst-Pack"}">',
            _item("divisions", list(kpoints.mesh)),
            _item("usershift", [0.0, 0.0, 0.0]),
            *(
                _item(f"genvec{n + 1}", [float(n == axis) / kpoints.mesh[n] for axis in range(3)])
                for n in range(3)
            ),
            _item("shift", list(kpoints.shift)),
            "</generation>",
        ]
    elif kpoints.is_line:
        lines += ['<generation param="listgenerated">', "</generation>"]
    lines += _varray("kpointlist", kpoints.points)
    lines += _varray("weights", kpoints.weights[:, None])
    return _element("kpoints", lines)


def _atominfo(inputs: Inputs) -> list[str]:
    counts = inputs.poscar.natoms
    symbols = inputs.poscar.site_symbols
    atoms = [
        f"<rc><c>{symbol:2s}</c><c>{n:4d}</c></rc>"
        for n, (symbol, count) in enumerate(zip(symbols, counts, strict=True), 1)
        for _ in range(count)
    ]
    types = [
        f"<rc><c>{count:4d}</c><c>{symbol:2s}</c><c>{single.POMASS:.8f}</c>"
        f"<c>{single.ZVAL:.8f}</c><c>{escape(single.header)}</c></rc>"
        for symbol, count, single in zip(symbols, counts, inputs.potcar, strict=True)
    ]
    return _element(
        "atominfo",
        [
            f"<atoms>{sum(counts)}</atoms>",
            f"<types>{len(types)}</types>",
            '<array name="atoms">',
            '<dimension dim="1">ion</dimension>',
            '<field type="string">element</field>',
            '<field type="int">atomtype</field>',
            *_element("set", atoms),
            "</array>",
            '<array name="atomtypes">',
            '<dimension dim="1">type</dimension>',
            '<field type="int">atomspertype</field>',
            '<field type="string">element</field>',
            "<field>mass</field>",
            "<field>valence</field>",
            '<field type="string">pseudopotential</field>',
            *_element("set", types),
            "</array>",
        ],
    )


def _structure(structure: Structure, name: str | None = None) -> list[str]:
    lattice = structure.lattice
    crystal = [
        *_varray("basis", lattice.matrix),
        _item("volume", float(lattice.volume)),
        *_varray("rec_basis", lattice.inv_matrix.T),
    ]
    lines = [*_element("crystal", crystal), *_varray("positions", structure.frac_coords)]
    opening = "<structure>" if name is None else f'<structure name="{name}">'
    return [opening, *lines, "</structure>"]


def _varray(name: str, rows: NDArray[np.float64]) -> list[str]:
    values = (f"<v>{' '.join(f'{value:16.8f}' for value in row)}</v>" for row in rows)
    return [f'<varray name="{name}">', *values, "</varray>"]


def _table(fields: Iterable[str], dimensions: Iterable[str], content: Iterable[str]) -> list[str]:
    return [
        "<array>",
        *(f'<dimension dim="{n}">{name}</dimension>' for n, name in enumerate(dimensions, 1)),
        *(f"<field>{field}</field>" for field in fields),
        *_element("set", content),
        "</array>",
    ]


def _set(comment: str, lines: Iterable[str]) -> list[str]:
    return [f'<set comment="{comment}">', *lines, "</set>"]


def _eigenvalues(spectrum: Spectrum) -> list[str]:
    content: list[str] = []
    for spin, (energies, occupations) in enumerate(
        zip(spectrum.energies, spectrum.occupations, strict=True), 1
    ):
        points: list[str] = []
        for n, rows in enumerate(np.stack([energies, occupations], axis=-1), 1):
            points += _set(f"kpoint {n}", (f"<r>{e:12.4f} {f:12.4f}</r>" for e, f in rows))
        content += _set(f"spin {spin}", points)
    table = _table(("eigene", "occ"), ("band", "kpoint", "spin"), content)
    return _element("eigenvalues", table)


def _dos(spectrum: Spectrum) -> list[str]:
    content: list[str] = []
    for spin, rows in enumerate(spectrum.dos, 1):
        content += _set(f"spin {spin}", (f"<r>{e:.4f} {d:.4f} {i:.4f}</r>" for e, d, i in rows))
    table = _table(("energy", "total", "integrated"), ("gridpoints", "spin"), content)
    return _element("dos", [_item("efermi", spectrum.efermi), *_element("total", table)])
