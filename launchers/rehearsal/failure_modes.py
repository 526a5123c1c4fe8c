"""Failure modes of the stand-in, which imitate failures of VASP, and their frequency."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

from gan_htvs.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RUNS_FILE = "rehearsal_runs"
"""File with the number of runs in a folder, including the current one."""

FAIL_VARIABLE = "GAN_HTVS_REHEARSAL_FAIL"
"""Environment variable: fraction of the calculations that fail in each mode."""


class FailureMode(StrEnum):
    """A failure mode."""

    UNCONVERGED = "unconverged"
    """A relaxation takes all NSW ionic steps."""
    ELECTRONIC = "electronic"
    """The last ionic step takes all NELM electronic steps."""
    KILLED = "killed"
    """SIGKILL after the first ionic step, as at the walltime or when memory runs out."""
    TRUNCATED = "truncated"
    """The second half of vasprun.xml is missing, as on a full disk."""
    MISSING = "missing"
    """vasprun.xml is missing."""
    ZBRENT = "zbrent"
    """The line search of a relaxation fails after the first ionic step."""
    BRMIX = "brmix"
    """The charge density cannot be mixed."""
    HANG = "hang"
    """The calculation hangs after the first ionic step."""
    ZOMBIE = "zombie"
    """All files are complete, but the process does not end."""


MESSAGES = {
    FailureMode.ZBRENT: " ZBRENT: fatal error in bracketing\n     please rerun with smaller EDIFF, "
    "or copy CONTCAR\n     to POSCAR and continue",
    FailureMode.BRMIX: " BRMIX: very serious problems\n  the old and the new charge density differ",
}
"""Error messages of VASP that custodian recognizes."""

CORRECTED = {FailureMode.ZBRENT, FailureMode.BRMIX, FailureMode.HANG}
"""Modes that do not occur again after custodian has changed the inputs."""

AFTER_FIRST_STEP = CORRECTED | {FailureMode.KILLED}
"""Modes in which the calculation stops after its first ionic step."""


def parse_shares(text: str, source: str = FAIL_VARIABLE) -> dict[FailureMode, float]:
    """Parse the fraction of calculations that fail in each mode.

    Parameters
    ----------
    text
        Fractions such as ``killed=0.1,zbrent=0.2``; a mode without a number has 1.
    source
        Name of the option or variable, for error messages.

    Raises
    ------
    UserError
        If a mode is unknown, or a fraction or the sum of all is not between 0 and 1.
    """
    shares: dict[FailureMode, float] = {}
    try:
        for part in text.replace(",", " ").split():
            name, _, number = part.partition("=")
            shares[FailureMode(name)] = float(number or 1)
    except ValueError as error:
        raise UserError(
            f"{source}: {part!r} is not MODE=SHARE, such as killed=0.1; the modes are "
            f"{', '.join(FailureMode)}."
        ) from error
    if not (all(share >= 0 for share in shares.values()) and sum(shares.values()) <= 1):
        raise UserError(f"{source}: {text!r}: shares and their sum must lie between 0 and 1.")
    return shares


def drawn_failure(folder: Path, shares: Mapping[FailureMode, float]) -> FailureMode | None:
    """Return the failure mode of the calculation in a folder; None if it succeeds.

    The mode depends on the path, so the same calculation in another folder may succeed.
    """
    source = random.Random(str(folder.resolve()))  # noqa: S311 - no secret
    weights = [*shares.values(), 1 - sum(shares.values())]
    return source.choices([*shares, None], weights)[0]


def failure_of_run(folder: Path) -> FailureMode | None:
    """Increment the number of runs in a folder and return the failure mode of this run.

    Modes that custodian corrects occur only in the first run, all others in every run.

    Raises
    ------
    UserError
        If ``GAN_HTVS_REHEARSAL_FAIL`` cannot be parsed.
    """
    failure = drawn_failure(folder, parse_shares(os.environ.get(FAIL_VARIABLE, "")))
    path = folder / RUNS_FILE
    run = int(path.read_text(encoding="utf-8")) + 1 if path.exists() else 1
    path.write_text(str(run), encoding="utf-8")
    return None if run > 1 and failure in CORRECTED else failure


def fail_after_first_step(mode: FailureMode) -> int:
    """Kill this process, sleep forever, or print an error of VASP and return an exit code."""
    if mode == FailureMode.KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == FailureMode.HANG:
        _sleep_forever()
    print(MESSAGES[mode], flush=True)  # noqa: T201 - this is the standard output of VASP
    return 1


def fail_at_end(mode: FailureMode | None, vasprun: Path) -> None:
    """Damage the output of a complete calculation, or sleep forever."""
    match mode:
        case FailureMode.TRUNCATED:
            os.truncate(vasprun, vasprun.stat().st_size // 2)
        case FailureMode.MISSING:
            vasprun.unlink()
        case FailureMode.ZOMBIE:
            _sleep_forever()


def _sleep_forever() -> NoReturn:
    """Sleep until this process is killed or its parent ends."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.5)
    sys.exit(1)
