"""Outcome of a VASP calculation: checks of its results, and the reason if it failed."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from custodian.custodian import (
    CustodianError,
    NonRecoverableError,
    ReturnCodeError,
    ValidationError,
    Validator,
)
from custodian.vasp.validators import VaspFilesValidator, VasprunXMLValidator
from emmet.core.types.enums import TaskState
from monty.io import zopen
from monty.os.path import zpath
from monty.serialization import loadfn
from pymatgen.electronic_structure.core import Spin
from pymatgen.io.vasp.inputs import Incar, Poscar
from pymatgen.io.vasp.outputs import Vasprun

from gan_htvs.core.band_gap import BandEdges, fill_bands, magnetic_order
from gan_htvs.core.errors import CalculationError, UserError
from gan_htvs.core.failure import is_machine_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emmet.core.tasks import TaskDoc
    from numpy.typing import NDArray

BAND_EDGES = "band_edges"
"""Key of ``TaskDoc.additional_json`` for the band edges of counted electrons."""

END_OF_OUTCAR = "General timing and accounting"
"""Heading of the last part of a complete OUTCAR."""

MOMENTS_OF_OUTCAR = "magnetization (x)"
"""Heading of the table of magnetic moments."""


class MomentsValidator(Validator):
    """Refuse a spin-polarized calculation without a magnetic moment of every atom in OUTCAR.

    pymatgen takes a missing table for no moments, skips rows with ``****``, and reads the table of
    an earlier ionic step if OUTCAR is cut off.
    """

    def check(self, directory: str = "./") -> bool:
        """Return whether moments are missing, not finite, or of a run that was cut off."""
        folder = Path(directory)
        if Incar.from_file(folder / "INCAR").get("ISPIN", 1) != POLARIZED:
            return False
        n_atoms = sum(Poscar.from_file(folder / "POSCAR", check_for_potcar=False).natoms)
        return len(moments_in(folder / "OUTCAR")) != n_atoms


REASONS = {
    VasprunXMLValidator: "vasprun.xml is missing or cut off",
    VaspFilesValidator: "CONTCAR, OSZICAR or OUTCAR is missing",
    MomentsValidator: "OUTCAR is cut off or lacks the magnetic moments of its atoms (ISPIN = 2)",
}
"""Reason of a failure, by the validator of custodian that rejects the calculation."""

STANDARD_ERROR, STANDARD_OUTPUT = "std_err.txt", "vasp.out"
"""Files with the messages of VASP, its launcher and its container, as custodian names them."""

SILENT = "; VASP and its launcher wrote no message, as if VASP was killed or the disk is full"
"""Reason if neither of these files has a message."""

PROGRESS = re.compile(
    r"\s*(DAV|RMM|CGA|DIA|SDA|EDD|N +E|\d+ +F=|bond charge|entering|prediction|reached)"
)
"""Beginning of lines of ``vasp.out`` about the progress of a calculation."""

N_QUOTED_LINES = 4
QUOTED_LENGTH = 160
"""Largest number of quoted lines of a file, and characters of each of them."""

PROGRAM_VARIABLE = "GAN_HTVS_VASP_PROGRAM"
"""Environment variable: name of the program whose results are accepted."""

HEADER_LENGTH = 1000
"""Characters at the beginning of vasprun.xml that name the program."""

POLARIZED = 2
"""ISPIN of a spin-polarized calculation."""

WALLTIME_REACHED = "Walltime reached"
"""Name of a reached time limit in the log of custodian."""

FROZEN = "Frozen job"
"""Last correction of a calculation that hung."""


def check_convergence(task: TaskDoc) -> None:
    """Check that a calculation converged.

    Raises
    ------
    CalculationError
        If it did not converge, or atomate2's checks of the result failed.
    """
    # pymatgen takes a relaxation that was stopped before NSW steps for converged.
    if WALLTIME_REACHED in corrections_in(Path.cwd()):
        raise CalculationError("stopped at engines.vasp.max_seconds")
    if task.state == TaskState.SUCCESS:
        return
    last = task.calcs_reversed[0]
    steps, incar = last.output.ionic_steps, last.input.parameters
    if steps and len(steps[-1].electronic_steps or ()) >= incar["NELM"]:
        raise CalculationError(f"not converged in NELM = {incar['NELM']} electronic steps")
    if incar["NSW"] > 0 and len(steps) >= incar["NSW"]:
        raise CalculationError(f"not converged in NSW = {incar['NSW']} ionic steps")
    raise CalculationError("; ".join(task.analysis.errors or ()) or "not converged")


def check_finite(task: TaskDoc) -> None:
    """Check that the results are finite; VASP writes NaN, or ``****`` for large numbers.

    Raises
    ------
    CalculationError
        If energy, forces, moments or structure are not finite.
    """
    steps = task.calcs_reversed[0].output.ionic_steps
    structure = task.structure
    results = {
        "energy": [task.output.energy, task.output.energy_per_atom],
        "forces": (steps and steps[-1].forces) or [],
        "magnetic moments": structure.site_properties.get("magmom") or [],
        "lattice": structure.lattice.matrix,
        "coordinates": structure.frac_coords,
    }
    wrong = [name for name, values in results.items() if not _are_finite(values)]
    if wrong:
        raise CalculationError(f"not finite (NaN or **** in the output): {', '.join(wrong)}")


def _are_finite(values: Any) -> bool:
    return bool(np.isfinite(np.asarray(values, dtype=float)).all())


def check_program(folder: Path) -> None:
    """Check that VASP, and not another program, computed the results.

    Raises
    ------
    CalculationError
        If vasprun.xml names another program than ``GAN_HTVS_VASP_PROGRAM``, by default vasp.
    """
    expected = os.environ.get(PROGRAM_VARIABLE, "vasp")
    with zopen(zpath(str(folder / "vasprun.xml")), "rt", encoding="utf-8") as file:
        match = re.search(r'name="program"[^>]*>\s*([^<]*?)\s*<', str(file.read(HEADER_LENGTH)))
    program = match[1] if match else "nothing"
    if program != expected:
        raise CalculationError(
            f"vasprun.xml names {program!r} as its program, not {expected!r}: check VASP_CMD"
        )


def moments_in(outcar: Path) -> list[float]:
    """Read the final magnetic moments of the atoms, Bohr magnetons.

    Parameters
    ----------
    outcar
        Path of OUTCAR.

    Returns
    -------
    list
        Empty if OUTCAR is cut off, has no table of them, or any number in it is not finite.
    """
    text = outcar.read_text(encoding="utf-8", errors="replace")
    _, heading, rest = text.rpartition(MOMENTS_OF_OUTCAR)
    table, end, _ = rest.partition(END_OF_OUTCAR)
    lines = [line.split() for line in table.splitlines()]
    # The table of a single atom ends without a line of dashes.
    rows = takewhile(_is_row, dropwhile(lambda words: not _is_row(words), lines))
    try:
        moments = np.array(list(rows), dtype=float)[:, -1]
    except (ValueError, IndexError):  # **** or a row of another length; no rows
        return []
    return moments.tolist() if heading and end and np.isfinite(moments).all() else []


def _is_row(words: list[str]) -> bool:
    """Return whether a line begins with the number of an atom."""
    return bool(words) and words[0].isdigit()


def magnetic_state(task: TaskDoc) -> tuple[str, float]:
    """Return the magnetic ordering of a calculation and its total moment, Bohr magnetons."""
    moments = task.structure.site_properties.get("magmom")
    if moments is None:  # without spin, see MomentsValidator
        return "NM", 0.0
    total = sum(moments)
    return magnetic_order(moments, total=total), total


def eigenvalues_of(vasprun: Vasprun) -> NDArray[np.float64]:
    """Return the eigenvalues, (n_spins, n_kpoints, n_bands), eV."""
    spins = [spin for spin in (Spin.up, Spin.down) if spin in vasprun.eigenvalues]
    return np.stack([vasprun.eigenvalues[spin][..., 0] for spin in spins])


def band_edges(vasprun: Vasprun) -> BandEdges | None:
    """Return the band edges from counted electrons; None if the bands are too few.

    VASP's Fermi level is not reliable: with points of zero weight, or a level just above the
    highest occupied state, an insulator looks like a metal.
    """
    return fill_bands(
        eigenvalues_of(vasprun), vasprun.actual_kpoints_weights, vasprun.parameters["NELECT"]
    )


def store_band_edges(task: TaskDoc, folder: Path) -> None:
    """Add the band edges of vasprun.xml to ``additional_json`` of a task.

    Parameters
    ----------
    task
        Document of a static calculation.
    folder
        Folder of its vasprun.xml, compressed or not.
    """
    path = zpath(str(folder / "vasprun.xml"))
    edges = band_edges(Vasprun(path, parse_dos=False, parse_potcar_file=False))
    task.additional_json = (task.additional_json or {}) | {BAND_EDGES: edges and asdict(edges)}


def stored_band_edges(task: TaskDoc) -> BandEdges | None:
    """Return the stored band edges of a task; None if the bands are too few."""
    edges = (task.additional_json or {}).get(BAND_EDGES)
    return BandEdges(**edges) if edges else None


def explain(error: Exception, corrections: Sequence[str], folder: Path) -> tuple[str, bool]:
    """Return the reason of a failure, and whether the calculation may succeed in another run.

    It may succeed if it was stopped, killed or cut off, if it hung, or if memory or disk was full.
    Calculations that did not converge, or whose errors custodian could not fix, would fail again.

    Parameters
    ----------
    error
        Exception, usually of custodian.
    corrections
        See :func:`corrections_in`.
    folder
        Folder of the calculation.
    """
    said = messages_in(folder)
    last = f", the last one {corrections[-1]}" if corrections else ""
    match error:
        case CalculationError() | UserError():
            return str(error), WALLTIME_REACHED in corrections
        case ReturnCodeError():
            return f"VASP did not finish: {error}{said or SILENT}", True
        case ValidationError():
            default = f"custodian rejects the result: {error}"
            reason = REASONS.get(type(error.validator), default)
            return f"{reason}{said or SILENT}", True
        case NonRecoverableError():
            reason = f"custodian has no fix for this error{last}{said}"
            return reason, FROZEN in corrections[-1:]
        case CustodianError():
            reason = f"custodian gave up after {len(corrections)} errors{last}"
            return reason, FROZEN in corrections[-1:]
    sentence = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {sentence}{said}", is_machine_error(error)


def messages_in(folder: Path) -> str:
    """Return the last messages that VASP, its launcher or its container wrote before a failure.

    Lines about the progress are no message. The first lines of the standard error often name the
    cause, the last lines of the standard output the error of VASP.

    Returns
    -------
    Quotation that continues a sentence; empty if the program wrote no message.
    """
    errors = _lines_of(folder / STANDARD_ERROR)
    if len(errors) > N_QUOTED_LINES:
        half = N_QUOTED_LINES // 2
        errors = [*errors[:half], "...", *errors[-half:]]
    output = _lines_of(folder / STANDARD_OUTPUT)[-N_QUOTED_LINES:]
    if output and PROGRESS.match(output[-1]):
        output = []
    quotations = {STANDARD_ERROR: errors, STANDARD_OUTPUT: output}
    return "".join(
        f"; {name}: {' / '.join(lines)!r}" for name, lines in quotations.items() if lines
    )


def _lines_of(path: Path) -> list[str]:
    """Return the lines of a file without the frames of VASP's messages and without empty lines."""
    try:
        with zopen(zpath(str(path)), "rt", encoding="utf-8", errors="replace") as file:
            text = str(file.read())
    except (OSError, EOFError):  # missing, or cut off by a full disk
        return []
    lines = (" ".join(line.strip(" |-*\t\r").split()) for line in text.splitlines())
    return [line[:QUOTED_LENGTH] for line in lines if line]


def corrections_in(folder: Path) -> list[str]:
    """Read the errors that custodian found, corrected or not, from its log."""
    try:
        runs = loadfn(zpath(str(folder / "custodian.json")), cls=json.JSONDecoder)
    except (OSError, EOFError, ValueError):  # missing, or cut off by a full disk
        return []
    return [
        str(error)
        for run in runs
        for correction in run.get("corrections", ())
        for error in correction.get("errors", ())
    ]
