"""The POTCARs of VASP: which ones an input set uses, and whether they are what they should be.

They are licensed and never come with this package; pymatgen finds them below
``PMG_VASP_PSP_DIR``.
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
"""Environment variable, and key of ~/.config/.pmgrc.yaml, that names pymatgen's folder."""

_LAST_LINE = "End of Dataset"


class PotcarReport(NamedTuple):
    """Findings about a set of POTCARs, a sentence each."""

    problems: list[str]
    """VASP cannot run, or would run with the wrong potential."""
    warnings: list[str]
    """Potentials that pymatgen does not know."""


def potcar_symbols(input_set: VaspInputSet, elements: Iterable[str]) -> dict[str, str]:
    """Return which POTCAR of each element an input set uses.

    Parameters
    ----------
    input_set
        With the user's settings, such as ``MPRelaxSet(user_potcar_functional="PBE")`` or the
        ``input_set_generator`` of an atomate2 Maker. It is not changed.
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
    apart = [[i / len(names), 0, 0] for i in range(len(names))]
    asked = deepcopy(input_set)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about this structure, which is none
        asked.structure = Structure(Lattice.cubic(10.0 * len(names)), names, apart)
        symbols = asked.potcar_symbols
    return {element_of(symbol): symbol for symbol in sorted(symbols)}


def element_of(symbol: str) -> str:
    """Return the element of a POTCAR symbol, such as Mg of Mg_pv."""
    return symbol.partition("_")[0]


def check_potcars(symbols: Iterable[str], functional: str) -> PotcarReport:
    """Open each POTCAR as the jobs will, and check that it is what its name says.

    Parameters
    ----------
    symbols
        Symbols of POTCARs, such as Mg_pv.
    functional
        Pymatgen's key of a family of POTCARs, such as PBE or PBE_54.

    Returns
    -------
    A sentence for each POTCAR that is missing, damaged or of something else, and for each that
    pymatgen's database of potentials does not hold.
    """
    report = PotcarReport([], [])
    folder = SETTINGS.get(FOLDER_VARIABLE)
    if functional not in POTCAR_FUNCTIONAL_MAP:
        known = ", ".join(POTCAR_FUNCTIONAL_MAP)
        report.problems.append(f"potcar_functional {functional!r} is none of {known}")
    elif not folder or not Path(folder).is_dir():
        report.problems.append(f"{FOLDER_VARIABLE} ({folder}) must name pymatgen's POTCAR folder")
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
        report.problems.append(f"{name} is not in {SETTINGS[FOLDER_VARIABLE]}{_elsewhere(symbol)}")
        return
    except Exception as error:  # noqa: BLE001 - its type depends on where a file is damaged
        reason = (str(error).splitlines() or [""])[0]
        report.problems.append(
            f"{name} cannot be read as a POTCAR ({type(error).__name__}: {reason:.80})"
        )
        return
    if functionals:
        if functional not in functionals:
            report.problems.append(f"{name} is one of {' and '.join(sorted(functionals))}")
        elif symbol not in symbols:
            report.problems.append(f"{name} is {' or '.join(sorted(symbols))}")
    elif element != element_of(symbol):
        report.problems.append(f"{name} is one of the element {element}")
    elif kind != functional.partition("_")[0] and functional.startswith("PBE"):
        report.problems.append(f"{name} was made with {kind}")
    elif not potcar.data.rstrip().endswith(_LAST_LINE):
        report.problems.append(f"{name} does not end with {_LAST_LINE!r}: it was cut")
    else:
        report.warnings.append(f"{name} is unknown to pymatgen: an unusual release, or damaged")


def _read(symbol: str, functional: str) -> PotcarSingle:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unknown ones are told in the report
        return PotcarSingle.from_symbol_and_functional(symbol, functional)


def _elsewhere(symbol: str) -> str:
    """Name the families that do have a POTCAR, which is the usual mix-up."""
    found = []
    for other in POTCAR_FUNCTIONAL_MAP:
        with suppress(Exception):
            _read(symbol, other)
            found.append(other)
    return f", which has that of {', '.join(found)}" if found else ""
