"""Placeholder POTCARs: headers that pymatgen and custodian can read, without potentials."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from monty.serialization import loadfn
from pymatgen.core import SETTINGS, Element
from pymatgen.io.vasp.inputs import POTCAR_FUNCTIONAL_MAP, POTCAR_STATS_PATH

from gan_htvs.errors import UserError
from gan_htvs.potcars import element_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ENMAX = 400.0
"""Cutoff of all placeholders, that of the standard oxygen potential, eV."""

SUB_DIRS = "PMG_VASP_PSP_SUB_DIRS"
"""Setting of pymatgen: other names of the folder of a functional."""

TEMPLATE = """\
  {header}
   {zval:.14f}
 parameters from PSCTR are:
   VRHFIN ={vrhfin}
   LEXCH  = {lexch}
   EATOM  =     0.0000 eV,    0.0000 Ry

   TITEL  = {header}
   LULTRA =        F    use ultrasoft PP ?
   IUNSCR =        0    unscreen: 0-lin 1-nonlin 2-no
   RPACOR =    0.000    partial core radius
   POMASS ={mass:9.3f}; ZVAL   ={zval:9.3f}    mass and valenz
   RCORE  =    2.000    outmost cutoff radius
   RWIGS  =    2.000; RWIGS  =    1.058    wigner-seitz radius (au A)
   ENMAX  ={enmax:9.3f}; ENMIN  ={enmin:9.3f} eV
   LCOR   =        F    correct aug charges
   LPAW   =        T    paw PP
   COPYR  = placeholder of a gan-htvs rehearsal without any licensed content
 END of PSCTR-controll parameters
 placeholder: no potential follows
   0.0
 End of Dataset
"""


def write_placeholders(folder: Path, symbols: Iterable[str], functional: str) -> None:
    """Write placeholder POTCARs where pymatgen looks for those of a functional.

    Charge, functional and valence states are those of the potential of that name in pymatgen's
    statistics. Unknown potentials have the electrons outside of the noble-gas core.

    Parameters
    ----------
    folder
        Folder for ``PMG_VASP_PSP_DIR``.
    symbols
        Names of potentials, such as Mn_pv.
    functional
        POTCAR functional in pymatgen's notation, such as PBE or PBE_54.

    Raises
    ------
    UserError
        If the functional or an element is unknown.
    """
    if functional not in POTCAR_FUNCTIONAL_MAP:
        raise UserError(
            f"engines.vasp.potcar_functional: {functional!r} is unknown to pymatgen; choose from "
            f"{', '.join(POTCAR_FUNCTIONAL_MAP)}."
        )
    sub_dirs = SETTINGS.get(SUB_DIRS) or {}
    target = folder / sub_dirs.get(functional, POTCAR_FUNCTIONAL_MAP[functional])
    known = _known_potentials()[functional]
    target.mkdir(parents=True, exist_ok=True)
    for symbol in symbols:
        text = _placeholder(symbol, functional, known.get(symbol, {}))
        (target / f"POTCAR.{symbol}").write_text(text, encoding="utf-8")


@cache
def _known_potentials() -> dict[str, dict[str, dict[str, object]]]:
    """Read pymatgen's data on the potentials of each functional, by symbol."""
    return {
        functional: {
            variant["symbol"]: {key: variant[key] for key in ("LEXCH", "VRHFIN", "ZVAL")}
            for variants in potentials.values()
            for variant in variants
        }
        for functional, potentials in loadfn(POTCAR_STATS_PATH).items()
    }


def _placeholder(symbol: str, functional: str, known: dict[str, object]) -> str:
    name = element_of(symbol)
    if not Element.is_valid_symbol(name):
        raise UserError(f"POTCAR: {symbol!r} does not begin with an element.")
    element = Element(name)
    lexch = known.get("LEXCH", "CA" if functional.startswith(("LDA", "Perdew")) else "PE")
    family = "PAW" if lexch == "CA" else "PAW_PBE"
    return TEMPLATE.format(
        header=f"{family} {symbol} placeholder",
        vrhfin=known.get("VRHFIN", f"{name}: unknown"),
        lexch=lexch,
        zval=known.get("ZVAL", _outer_electrons(element)),
        mass=float(element.atomic_mass),
        enmax=ENMAX,
        enmin=0.75 * ENMAX,
    )


def _outer_electrons(element: Element) -> int:
    noble = max((z for z in (2, 10, 18, 36, 54, 86) if z < element.Z), default=0)
    return element.Z - noble
