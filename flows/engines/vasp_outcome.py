"""What became of a VASP calculation: its state, and if it failed, why in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from custodian.custodian import (
    MaxCorrectionsError,
    MaxCorrectionsPerHandlerError,
    MaxCorrectionsPerJobError,
    NonRecoverableError,
    ReturnCodeError,
    ValidationError,
)
from custodian.vasp.validators import VaspFilesValidator, VasprunXMLValidator
from emmet.core.types.enums import TaskState
from monty.io import zopen
from monty.os.path import zpath

from gan_htvs.bandgap import magnetic_order
from gan_htvs.errors import CalculationError
from gan_htvs.rehearsal.cost import COST_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emmet.core.tasks import TaskDoc

MEANINGS = {
    VasprunXMLValidator: "vasprun.xml is missing or cut off: VASP was killed, or the disk is full",
    VaspFilesValidator: "VASP left no CONTCAR, OSZICAR or OUTCAR: it did not start, or was killed",
}
"""What it means that one of custodian's validators does not accept a calculation."""

STAND_IN_REPORT = Path(COST_FILE).stem
"""Every calculation of the stand-in leaves its cost, which atomate2 stores under this name."""

WALLTIME_REACHED = "Walltime reached"
"""What custodian calls it."""

FROZEN = "Frozen job"
"""Last correction of a calculation that wrote nothing more."""


class StoppedError(CalculationError):
    """A calculation reached its time limit."""


def check_convergence(task: TaskDoc) -> None:
    """Make sure that a calculation came to its end.

    Raises
    ------
    CalculationError
        If it did not converge, or atomate2's checks of the result failed.
    """
    # Stopped before NSW steps, a relaxation looks converged to pymatgen.
    if WALLTIME_REACHED in corrections_in(Path.cwd()):
        raise StoppedError("stopped at engines.vasp.max_seconds")
    if task.state == TaskState.SUCCESS:
        return
    last = task.calcs_reversed[0]
    steps, incar = last.output.ionic_steps, last.input.parameters
    if steps and len(steps[-1].electronic_steps or ()) >= incar["NELM"]:
        raise CalculationError(f"not converged in NELM = {incar['NELM']} electronic steps")
    if incar["NSW"] > 0 and len(steps) >= incar["NSW"]:
        raise CalculationError(f"not converged in NSW = {incar['NSW']} ionic steps")
    raise CalculationError("; ".join(task.analysis.errors or ()) or "not converged")


def check_program(task: TaskDoc, *, is_rehearsal: bool) -> None:
    """Make sure that a rehearsal was run by the stand-in for VASP, and nothing else was.

    Raises
    ------
    CalculationError
        If numbers of the one would be taken for those of the other.
    """
    was_stand_in = STAND_IN_REPORT in (task.additional_json or {})
    if was_stand_in and not is_rehearsal:
        raise CalculationError("the stand-in for VASP answered where VASP should: look at VASP_CMD")
    if is_rehearsal and not was_stand_in:
        raise CalculationError("another program answered than the stand-in for VASP")


def magnetic_state(task: TaskDoc) -> tuple[str, float]:
    """Name the magnetic order of a calculation, and tell its moment, Bohr magnetons."""
    moments = task.structure.site_properties.get("magmom") or [0.0]
    total = sum(moments)
    return magnetic_order(moments, total=total), total


def reason_of(error: Exception, corrections: Sequence[str]) -> str:
    """Tell in one sentence why a calculation failed.

    Parameters
    ----------
    error
        What was raised, by custodian as a rule.
    corrections
        See :func:`corrections_in`.
    """
    last = f", the last one {corrections[-1]}" if corrections else ""
    match error:
        case CalculationError():
            return str(error)
        case MaxCorrectionsError() | MaxCorrectionsPerJobError() | MaxCorrectionsPerHandlerError():
            return f"custodian gave up after {len(corrections)} errors{last}"
        case NonRecoverableError():
            return f"custodian knows no cure{last}"
        case ReturnCodeError():
            return f"VASP did not run to its end: {error}"
        case ValidationError():
            return MEANINGS.get(type(error.validator), f"custodian does not accept it: {error}")
    sentence = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {sentence}"


def is_retryable(error: Exception, corrections: Sequence[str]) -> bool:
    """Whether the same calculation may succeed another time.

    It was stopped, killed or cut off, it hung, or memory or the disk was full. What custodian gave
    up for another reason, or did not converge, would fail again.
    """
    if isinstance(error, OSError):
        return error.errno is not None
    if isinstance(error, StoppedError | ReturnCodeError | ValidationError | MemoryError):
        return True
    return FROZEN in corrections[-1:]


def corrections_in(folder: Path) -> list[str]:
    """Read from custodian's log which errors it corrected, or found in vain."""
    path = Path(zpath(str(folder / "custodian.json")))
    if not path.exists():
        return []
    try:
        with zopen(path, "rt", encoding="utf-8") as file:
            runs = json.load(file)
    except (OSError, EOFError, ValueError):  # cut off by a full disk
        return []
    return [
        str(error)
        for run in runs
        for correction in run.get("corrections", ())
        for error in correction.get("errors", ())
    ]
