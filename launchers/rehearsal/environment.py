"""Environment of the stand-in: environment variables and placeholder POTCARs.

Placeholders have headers that pymatgen and custodian can parse, but no potential.
"""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING

from monty.serialization import loadfn
from pymatgen.core import SETTINGS, Element
from pymatgen.io.vasp.inputs import (
    POTCAR_FUNCTIONAL_MAP,
    POTCAR_STATS_PATH,
    UnknownPotcarWarning,
)

from flows.engines.vasp_outcome import PROGRAM_VARIABLE
from gan_htvs.core.environment import temporary_values
from gan_htvs.core.errors import UserError
from gan_htvs.core.potcars import FOLDER_VARIABLE, element_of
from launchers.rehearsal.failure_modes import FAIL_VARIABLE, parse_shares
from launchers.rehearsal.labels import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

COMMAND = shlex.join([sys.executable, "-m", "launchers.rehearsal"])
"""Command of the stand-in."""

COMMAND_VARIABLES = ("ATOMATE2_VASP_CMD", "ATOMATE2_VASP_GAMMA_CMD")
"""Variables from which atomate2 reads the command at its import."""

ENMAX = 400.0
"""Cutoff of all placeholders, equal to that of the standard oxygen potential, eV."""

SUB_DIRS = "PMG_VASP_PSP_SUB_DIRS"
"""Setting of pymatgen: other names of the folder of a functional."""

TEMPLATE = """\
  {header}
   {ZVAL:.14f}
 parameters from PSCTR are:
   VRHFIN ={VRHFIN}
   LEXCH  = {LEXCH}
   TITEL  = {header}
   LULTRA =        F    use ultrasoft PP ?
   POMASS ={mass:9.3f}; ZVAL   ={ZVAL:9.3f}    mass and valenz
   ENMAX  ={enmax:9.3f}; ENMIN  ={enmax:9.3f} eV
   LPAW   =        T    paw PP
   COPYR  = placeholder of a gan-htvs rehearsal without any licensed content
 END of PSCTR-controll parameters
 placeholder: no potential follows
   0.0
 End of Dataset
"""


@contextmanager
def stand_in(
    potcars: Path,
    symbols: Iterable[str],
    functional: str,
    failures: str | None = None,
) -> Iterator[None]:
    """Make VASP jobs run the stand-in and accept its output.

    Processes started within the block inherit the environment. In this process pymatgen finds the
    placeholders without a warning, but atomate2 keeps the commands that it read at its import. The
    settings apply to the whole process, so only one thread may use this at a time.

    Parameters
    ----------
    potcars
        Folder for placeholder POTCARs, which are not deleted.
    symbols
        Names of potentials, such as Mn_pv.
    functional
        POTCAR functional in pymatgen's notation, such as PBE or PBE_54.
    failures
        Fraction of the calculations that fail in each mode, as in :func:`parse_shares`; None: the
        value of ``GAN_HTVS_REHEARSAL_FAIL``.

    Raises
    ------
    UserError
        If the functional, an element or a failure mode is unknown.
    """
    failures = os.environ.get(FAIL_VARIABLE, "") if failures is None else failures
    parse_shares(failures)
    write_placeholders(potcars, symbols, functional)
    folder = {FOLDER_VARIABLE: str(potcars.resolve())}
    environment = {
        **dict.fromkeys(COMMAND_VARIABLES, COMMAND),
        **folder,
        PROGRAM_VARIABLE: PROGRAM,
        FAIL_VARIABLE: failures,
    }
    with (
        temporary_values(os.environ, environment),
        temporary_values(SETTINGS, folder),
        warnings.catch_warnings(action="ignore", category=UnknownPotcarWarning),
    ):
        yield


def write_placeholders(folder: Path, symbols: Iterable[str], functional: str) -> None:
    """Write placeholder POTCARs to the folder in which pymatgen looks for a functional.

    Charge, functional and valence states come from the potential of the same name in pymatgen's
    statistics, or else from the potential named after the element.

    Parameters
    ----------
    folder
        Value of ``PMG_VASP_PSP_DIR``.
    symbols
        Names of potentials, such as Mn_pv.
    functional
        POTCAR functional in pymatgen's notation, such as PBE or PBE_54.

    Raises
    ------
    UserError
        If the functional or a potential is unknown.
    """
    if functional not in POTCAR_FUNCTIONAL_MAP:
        raise UserError(
            f"engines.vasp.potcar_functional: {functional!r} is unknown to pymatgen; choose from "
            f"{', '.join(POTCAR_FUNCTIONAL_MAP)}."
        )
    sub_dirs = SETTINGS.get(SUB_DIRS) or {}
    target = folder / sub_dirs.get(functional, POTCAR_FUNCTIONAL_MAP[functional])
    target.mkdir(parents=True, exist_ok=True)
    variants = chain.from_iterable(loadfn(POTCAR_STATS_PATH)[functional].values())
    potentials = {variant["symbol"]: variant for variant in variants}
    for symbol in symbols:
        element = element_of(symbol)
        statistics = potentials.get(symbol) or potentials.get(element)
        if statistics is None:
            raise UserError(f"POTCAR: {symbol!r} of {functional} is unknown to pymatgen.")
        family = "PAW" if statistics["LEXCH"] == "CA" else "PAW_PBE"
        header = f"{family} {symbol} placeholder"
        mass = float(Element(element).atomic_mass)
        text = TEMPLATE.format(header=header, mass=mass, enmax=ENMAX, **statistics)
        (target / f"POTCAR.{symbol}").write_text(text, encoding="utf-8")
