"""POTCARs of VASP: symbols that an input set uses, and checks of the files.

POTCARs are licensed and not part of this package; pymatgen reads them from ``PMG_VASP_PSP_DIR``.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pymatgen.core import SETTINGS, Lattice, Structure
from pymatgen.io.vasp.inputs import POTCAR_FUNCTIONAL_MAP, PotcarSingle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymatgen.io.vasp.sets import VaspInputSet

FOLDER_VARIABLE = "PMG_VASP_PSP_DIR"
"""Environment variable and key of ~/.config/.pmgrc.yaml with the POTCAR folder of pymatgen."""

_LAST_LINE = "End of Dataset"


class PotcarReport(NamedTuple):
    """Findings about a set of POTCARs, one sentence each."""

    problems: list[str]
    """POTCARs with which VASP cannot run, or would use the wrong potential."""
    warnings: list[str]
    """POTCARs that are not in pymatgen's database of potentials."""


def potcar_symbols(input_set: VaspInputSet, elements: Iterable[str]) -> dict[str, str]:
    """Return the POTCAR symbol that an input set uses for each element.

    Parameters
    ----------
    input_set
        Input set with the user's settings, such as ``MPRelaxSet(user_potcar_functional="PBE")`` or
        the ``input_set_generator`` of an atomate2 Maker. It is not modified.
    elements
        Symbols of elements, in any order.

    Examples
    --------
    >>> from pymatgen.io.vasp.sets import MPRelaxSet
    >>> potcar_symbols(MPRelaxSet(), ["O", "Mg"])
    {'Mg': 'Mg_pv', 'O': 'O'}
    """
    names = sorted(set(elements))
    if not names:
        return {}
    coords = [[i / len(names), 0, 0] for i in range(len(names))]
    copied = deepcopy(input_set)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the structure is a placeholder
        copied.structure = Structure(Lattice.cubic(10.0 * len(names)), names, coords)
        symbols = copied.potcar_symbols
    return {element_of(symbol): symbol for symbol in sorted(symbols)}


def element_of(symbol: str) -> str:
    """Return the element of a POTCAR symbol, such as Mg of Mg_pv."""
    return symbol.partition("_")[0]


def check_potcars(symbols: Iterable[str], functional: str) -> PotcarReport:
    """Read each POTCAR in the same way as the jobs, and check that its content matches its name.

    Parameters
    ----------
    symbols
        Symbols of POTCARs, such as Mg_pv.
    functional
        pymatgen's name of a family of POTCARs, such as PBE or PBE_54.

    Returns
    -------
    One problem for each POTCAR that is missing, damaged or of another potential, and one warning
    for each POTCAR that is not in pymatgen's database of potentials.
    """
    report = PotcarReport([], [])
    folder = SETTINGS.get(FOLDER_VARIABLE)
    if functional not in POTCAR_FUNCTIONAL_MAP:
        known = ", ".join(POTCAR_FUNCTIONAL_MAP)
        report.problems.append(f"potcar_functional {functional!r} is not one of {known}")
    elif not folder or not Path(folder).is_dir():
        report.problems.append(f"{FOLDER_VARIABLE} ({folder}) must be pymatgen's POTCAR folder")
    else:
        for symbol in sorted(set(symbols)):
            _examine(symbol, functional, report)
    return report


def _examine(symbol: str, functional: str, report: PotcarReport) -> None:
    name = f"POTCAR {symbol} of {functional}"
    try:
        potcar = _read(symbol, functional)
        functionals, symbols = potcar.identify_potcar(mode="file")
        element = potcar.element
        kind = potcar.functional or potcar.LEXCH
    except FileNotFoundError:
        folder = SETTINGS[FOLDER_VARIABLE]
        report.problems.append(f"{name} is not in {folder}{_families_with(symbol)}")
        return
    except Exception as error:  # noqa: BLE001 - the type depends on the damage
        reason = (str(error).splitlines() or [""])[0]
        report.problems.append(
            f"{name} cannot be read as a POTCAR ({type(error).__name__}: {reason:.80})"
        )
        return
    if functionals:
        if functional not in functionals:
            report.problems.append(f"{name} belongs to {' and '.join(sorted(functionals))}")
        elif symbol not in symbols:
            report.problems.append(f"{name} is {' or '.join(sorted(symbols))}")
    elif element != element_of(symbol):
        report.problems.append(f"{name} is for the element {element}")
    elif kind != functional.partition("_")[0] and functional.startswith("PBE"):
        report.problems.append(f"{name} was made with {kind}")
    elif not potcar.data.rstrip().endswith(_LAST_LINE):
        report.problems.append(f"{name} does not end with {_LAST_LINE!r}: it is truncated")
    else:
        report.warnings.append(f"{name} is not in pymatgen's database: unusual or damaged")


def _read(symbol: str, functional: str) -> PotcarSingle:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report lists unknown POTCARs
        return PotcarSingle.from_symbol_and_functional(symbol, functional)


def _families_with(symbol: str) -> str:
    """List the families that have a POTCAR, as the end of a sentence."""
    families = []
    for functional in POTCAR_FUNCTIONAL_MAP:
        with suppress(Exception):
            _read(symbol, functional)
            families.append(functional)
    return f", which has it for {', '.join(families)}" if families else ""
