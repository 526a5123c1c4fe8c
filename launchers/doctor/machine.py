"""The machine: its GPU, its queue and its disks."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from launchers.doctor.check import Finding, failure, ok, skipped, warning

if TYPE_CHECKING:
    from pathlib import Path

GIB = 2**30
LITTLE_SPACE = 10 * GIB
NO_SPACE = 1 * GIB
ANSWER_SECONDS = 5.0
"""How long a program may take to say something about itself or its queue."""


def gpu() -> Finding:
    """Look for a GPU that PyTorch can use; a processor does, too, with more patience."""
    import torch

    driver = _nvidia_driver()
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        more = f", {torch.cuda.device_count()} of them" if torch.cuda.device_count() > 1 else ""
        return ok(
            f"{properties.name}{more}, {properties.total_memory / GIB:.0f} GiB, "
            f"CUDA {torch.version.cuda}, driver {driver or 'unknown'}"
        )
    if driver is not None:
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without it"
        return warning(
            f"driver {driver}, which PyTorch {torch.__version__} ({built}) cannot use",
            "install the build of PyTorch for this driver, see pytorch.org/get-started",
        )
    return ok(f"none; PyTorch {torch.__version__} computes on the processor")


def _nvidia_driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    if shutil.which(command[0]) is None:
        return None
    code, output = answer(command)
    return output.splitlines()[0] if code == 0 and output else None


class Queue(NamedTuple):
    """A batch system and the commands that FireWorks calls."""

    name: str
    submit: str
    status: str


QUEUES = (
    Queue("SLURM", "sbatch", "squeue"),
    Queue("PBS or Grid Engine", "qsub", "qstat"),
    Queue("LSF", "bsub", "bjobs"),
)


def queue() -> Finding:
    """Find the batch system and ask it for its jobs, as ``qlaunch`` will."""
    for system in QUEUES:
        there = [c for c in (system.submit, system.status) if shutil.which(c)]
        if not there:
            continue
        if len(there) == 1:
            lacking = system.status if there == [system.submit] else system.submit
            return warning(
                f"{system.name}: {there[0]} is on PATH, {lacking} is not",
                "load the module of the batch system, or go to a login node",
            )
        code, output = answer([system.status])
        # LSF has no jobs to show, and says so with an error.
        if code not in (0, 255 if system.name == "LSF" else 0):
            told = (output.splitlines() or ["no reason given"])[0]
            return warning(
                f"{system.name}: {system.status} fails: {told:.160}",
                f"see that `{system.status}` works in this shell before `qlaunch`",
            )
        return ok(f"{system.name}: {system.submit} and {system.status} work")
    return skipped("no batch system here: `gan-htvs run` uses this machine alone")


def answer(command: list[str]) -> tuple[int | None, str]:
    """Run a command that only asks; the code is None if it hangs."""
    try:
        done = subprocess.run(  # noqa: S603
            command,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=ANSWER_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {ANSWER_SECONDS:g} s"
    return done.returncode, (done.stdout or done.stderr).strip()


def disk(directory: Path) -> Finding:
    """See whether a directory, which may not be there yet, can be written to and has space."""
    there = directory.absolute()
    while not there.exists():
        there = there.parent
    if not os.access(there, os.W_OK | os.X_OK):
        return failure(f"{there} is not writable", "choose another directory, or its permissions")
    free = shutil.disk_usage(there).free
    found = f"{free / GIB:.1f} GiB free at {there}"
    cure = "make space, or choose a directory on another disk"
    if free < NO_SPACE:
        return failure(found, cure)
    return warning(found, cure) if free < LITTLE_SPACE else ok(found)
