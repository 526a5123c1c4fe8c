"""Failure modes of the stand-in, which imitate those of VASP, and their frequency."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

from gan_htvs.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RUNS_FILE = "rehearsal_runs"
"""File with the number of runs in a folder, including the current one."""

FAIL_VARIABLE = "GAN_HTVS_REHEARSAL_FAIL"
"""Environment variable: share of the calculations that fail in each mode."""


class FailureMode(StrEnum):
    """A failure mode."""

    UNCONVERGED = "unconverged"
    """A relaxation takes all NSW ionic steps."""
    ELECTRONIC = "electronic"
    """The last ionic step takes all NELM electronic steps."""
    KILLED = "killed"
    """SIGKILL after the first ionic step, as by a queue or if memory is short."""
    TRUNCATED = "truncated"
    """The second half of vasprun.xml is missing, as on a full disk."""
    MISSING = "missing"
    """There is no vasprun.xml."""
    ZBRENT = "zbrent"
    """The line search of a relaxation fails after the first ionic step."""
    BRMIX = "brmix"
    """The charge density cannot be mixed."""
    HANG = "hang"
    """The calculation hangs after the first ionic step."""
    ZOMBIE = "zombie"
    """All files are complete and the process does not end."""

    @property
    def is_corrected(self) -> bool:
        """Whether it does not occur again after custodian has changed the inputs."""
        return self in {FailureMode.ZBRENT, FailureMode.BRMIX, FailureMode.HANG}

    @property
    def is_after_first_step(self) -> bool:
        """Whether the calculation stops after its first ionic step."""
        return self in MESSAGES or self in {FailureMode.KILLED, FailureMode.HANG}


MESSAGES = {
    FailureMode.ZBRENT: " ZBRENT: fatal error in bracketing\n     please rerun with smaller EDIFF, "
    "or copy CONTCAR\n     to POSCAR and continue",
    FailureMode.BRMIX: " BRMIX: very serious problems\n  the old and the new charge density differ",
}
"""Error messages of VASP that custodian recognizes."""


def parse_shares(text: str, source: str = FAIL_VARIABLE) -> dict[FailureMode, float]:
    """Read the share of calculations that fail in each mode.

    Parameters
    ----------
    text
        Shares such as ``killed=0.1,zbrent=0.2``; the share of a mode is 1 by default.
    source
        Name of the option or variable, for error messages.

    Raises
    ------
    UserError
        If a mode is unknown, or a share or the sum of all is not between 0 and 1.
    """
    shares: dict[FailureMode, float] = {}
    for part in filter(None, text.replace(",", " ").split()):
        name, _, number = part.partition("=")
        try:
            mode, share = FailureMode(name), float(number or 1)
        except ValueError as error:
            raise UserError(
                f"{source}: {part!r} is not MODE=SHARE, such as killed=0.1; modes are "
                f"{', '.join(FailureMode)}."
            ) from error
        if not 0 <= share <= 1:
            raise UserError(f"{source}: {part!r}: a share lies between 0 and 1.")
        shares[mode] = share
    if sum(shares.values()) > 1:
        raise UserError(f"{source}: {text!r}: the shares add up to more than 1.")
    return shares


def spell_shares(shares: Mapping[FailureMode, float]) -> str:
    """Write shares as :func:`parse_shares` reads them."""
    return ",".join(f"{mode}={share!r}" for mode, share in shares.items())


def shares_in_environment() -> dict[FailureMode, float]:
    """Read the shares in ``GAN_HTVS_REHEARSAL_FAIL``; errors as in :func:`parse_shares`."""
    return parse_shares(os.environ.get(FAIL_VARIABLE, ""))


def drawn_failure(folder: Path, shares: Mapping[FailureMode, float]) -> FailureMode | None:
    """Return the failure mode of the calculation in a folder; None if it succeeds.

    The mode depends on the path, so that the same calculation in another folder may succeed.
    """
    draw = random.Random(str(folder.resolve())).random()  # noqa: S311 - no secret
    for mode, share in shares.items():
        draw -= share
        if draw < 0:
            return mode
    return None


def failure_of_run(folder: Path) -> FailureMode | None:
    """Increment the number of runs in a folder and return the failure mode of this run.

    Modes that custodian corrects occur only in the first run, others in all.

    Raises
    ------
    UserError
        If ``GAN_HTVS_REHEARSAL_FAIL`` cannot be read.
    """
    failure = drawn_failure(folder, shares_in_environment())
    is_first = count_run(folder) == 1
    return failure if failure is None or is_first or not failure.is_corrected else None


def count_run(folder: Path) -> int:
    """Increment the number of runs in a folder and return it."""
    path = folder / RUNS_FILE
    run = int(path.read_text(encoding="utf-8")) + 1 if path.exists() else 1
    path.write_text(str(run), encoding="utf-8")
    return run


def fail_after_first_step(mode: FailureMode) -> int:
    """Kill this process, sleep forever, or print an error of VASP and return an exit code."""
    if mode == FailureMode.KILLED:
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == FailureMode.HANG:
        _sleep_forever()
    print(MESSAGES[mode], flush=True)  # noqa: T201 - this is the standard output of VASP
    return 1


def fail_at_end(mode: FailureMode, vasprun: Path) -> None:
    """Damage the output of a complete calculation, or do not end."""
    if mode == FailureMode.TRUNCATED:
        os.truncate(vasprun, vasprun.stat().st_size // 2)
    if mode == FailureMode.MISSING:
        vasprun.unlink()
    if mode == FailureMode.ZOMBIE:
        _sleep_forever()


def _sleep_forever() -> NoReturn:
    """Sleep until this process is killed, or its parent has ended."""
    sys.stdout.flush()
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.5)
    sys.exit(1)
