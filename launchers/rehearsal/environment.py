"""Environment of the stand-in: environment variables and placeholder POTCARs."""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest.mock import patch

from pymatgen.core import SETTINGS
from pymatgen.io.vasp.inputs import UnknownPotcarWarning

from flows.engines.vasp_outcome import PROGRAM_VARIABLE
from gan_htvs.core.potcars import FOLDER_VARIABLE
from launchers.rehearsal.failure_modes import FAIL_VARIABLE, parse_shares
from launchers.rehearsal.labels import PROGRAM
from launchers.rehearsal.potcar import write_placeholders

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

COMMAND = shlex.join([sys.executable, "-m", "launchers.rehearsal"])
"""Command of the stand-in."""

COMMAND_VARIABLES = ("ATOMATE2_VASP_CMD", "ATOMATE2_VASP_GAMMA_CMD")
"""Variables from which atomate2 reads the command at its import."""


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
        patch.dict(os.environ, environment),
        patch.dict(SETTINGS, folder),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", UnknownPotcarWarning)
        yield
