"""The ways in which the stand-in fails as VASP does, and how often."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

from pydantic import Field, ValidationError

from gan_htvs.engines import PotentialName
from gan_htvs.errors import UserError
from gan_htvs.settings import NonNegativeFloat, PositiveInt, Settings, first_problem

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS_FILE = "rehearsal_settings.json"
"""Optional file in the folder of a calculation."""

RUNS_FILE = "rehearsal_runs"
"""Counts the runs in a folder, this one included."""

FAIL_VARIABLE = "GAN_HTVS_REHEARSAL_FAIL"
"""Environment variable that overrides how a calculation fails."""


class FailureMode(StrEnum):
    """A way to fail."""

    UNCONVERGED = "unconverged"
    """A relaxation takes all NSW ionic steps."""
    ELECTRONIC = "electronic"
    """The last ionic step takes all NELM electronic steps."""
    KILLED = "killed"
    """SIGKILL after the first ionic step, as from a queue or for want of memory."""
    TRUNCATED = "truncated"
    """The second half of vasprun.xml is missing, as on a full disk."""
    MISSING = "missing"
    """There is no vasprun.xml."""
    ZBRENT = "zbrent"
    """The line search of a relaxation fails after the first ionic step."""
    BRMIX = "brmix"
    """The charge density cannot be mixed."""
    HANG = "hang"
    """Nothing happens any more after the first ionic step."""
    ZOMBIE = "zombie"
    """All files are complete and the process does not end."""

    @property
    def is_cured_by_retry(self) -> bool:
        """Whether it goes away once custodian has changed the inputs."""
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
"""What VASP writes, and custodian looks for."""


class RehearsalSettings(Settings):
    """What may stand in ``rehearsal_settings.json``."""

    potential: PotentialName = Field("chgnet", description="where energies and forces come from")
    fail: FailureMode | None = Field(None, description="how to fail; null: not at all")
    fail_runs: PositiveInt | None = Field(
        None,
        description="how many runs in this folder fail; null: one where custodian can correct the "
        "error, otherwise all",
    )
    seconds_per_step: NonNegativeFloat = Field(
        0, description="additional time that an ionic step takes, s"
    )

    def failure_of(self, run: int) -> FailureMode | None:
        """How the given run in a folder fails, the first being 1."""
        if self.fail is None:
            return None
        n_failing = self.fail_runs or (1 if self.fail.is_cured_by_retry else run)
        return self.fail if run <= n_failing else None


def read_settings(folder: Path) -> RehearsalSettings:
    """Read how to behave from ``rehearsal_settings.json``, if there is one, and the environment.

    Raises
    ------
    UserError
        If a setting or failure mode is unknown.
    """
    path = folder / SETTINGS_FILE
    source = SETTINGS_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if mode := os.environ.get(FAIL_VARIABLE):
            source = FAIL_VARIABLE
            document["fail"] = mode
        return RehearsalSettings.model_validate(document)
    except ValidationError as error:
        raise UserError(f"{source}: {first_problem(error)}.") from error
    except ValueError as error:
        raise UserError(f"{SETTINGS_FILE}: is no JSON: {error}.") from error


def count_run(folder: Path) -> int:
    """Count one more run in a folder; the first is 1."""
    path = folder / RUNS_FILE
    run = int(path.read_text(encoding="utf-8")) + 1 if path.exists() else 1
    path.write_text(str(run), encoding="utf-8")
    return run


def fail_after_first_step(mode: FailureMode) -> int:
    """Kill this process, sleep for ever, or print an error of VASP and give an exit code."""
    if mode == FailureMode.KILLED:
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == FailureMode.HANG:
        _sleep_for_ever()
    print(MESSAGES[mode], flush=True)  # noqa: T201 - this is the standard output of VASP
    return 1


def fail_at_end(mode: FailureMode, vasprun: Path) -> None:
    """Spoil what a complete calculation has left, or do not end."""
    if mode == FailureMode.TRUNCATED:
        os.truncate(vasprun, vasprun.stat().st_size // 2)
    if mode == FailureMode.MISSING:
        vasprun.unlink()
    if mode == FailureMode.ZOMBIE:
        _sleep_for_ever()


def _sleep_for_ever() -> NoReturn:
    """Do nothing until killed, or left alone by whoever watches."""
    sys.stdout.flush()
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.5)
    sys.exit(1)
