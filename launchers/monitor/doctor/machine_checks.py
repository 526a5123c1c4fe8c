"""The machine: its GPU, its batch system and its disks."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from launchers.launchpad.batch_system import run_program
from launchers.monitor.findings import Finding, failure, ok, skipped, warning

if TYPE_CHECKING:
    from pathlib import Path

GIB = 2**30
LITTLE_SPACE = 10 * GIB
NO_SPACE = 1 * GIB
ANSWER_SECONDS = 5.0
"""Longest time that a program may take to report about a GPU or a queue."""

BATCH_SYSTEMS = (
    ("SLURM", "sbatch", "squeue"),
    ("PBS or Grid Engine", "qsub", "qstat"),
    ("LSF", "bsub", "bjobs"),
)
"""Batch systems and the commands that FireWorks calls to submit and to count jobs."""


def gpu() -> Finding:
    """Look for a GPU that PyTorch can use; without one it computes on the processor."""
    import torch

    driver = _nvidia_driver()
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return ok(
            f"{torch.cuda.device_count()} x {properties.name}, "
            f"{properties.total_memory / GIB:.0f} GiB, CUDA {torch.version.cuda}, "
            f"driver {driver or 'unknown'}"
        )
    if driver is not None:
        return warning(
            f"PyTorch {torch.__version__}, built for CUDA {torch.version.cuda}, cannot use "
            f"driver {driver}",
            "install the build of PyTorch for this driver, see pytorch.org/get-started",
        )
    return ok(f"none; PyTorch {torch.__version__} computes on the processor")


def _nvidia_driver() -> str | None:
    query = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    done = run_program(query, ANSWER_SECONDS)
    return done.stdout.splitlines()[0] if done and not done.returncode and done.stdout else None


def batch_system() -> Finding:
    """Find the batch system and list its jobs, as ``qlaunch`` will."""
    for name, submit, status in BATCH_SYSTEMS:
        if not (shutil.which(submit) or shutil.which(status)):
            continue
        done = run_program((status,), ANSWER_SECONDS)
        if shutil.which(submit) is None:
            problem = f"{submit} is not on PATH"
        elif done is None:
            problem = f"{status} is not on PATH, or gives no answer within {ANSWER_SECONDS:g} s"
        elif done.returncode not in (0, 255 if name == "LSF" else 0):  # LSF without jobs: 255
            problem = f"{status} fails: {done.stderr.strip():.160}"
        else:
            return ok(f"{name}: {submit} and {status} work")
        return warning(
            f"{name}: {problem}",
            f"load the module of the batch system, or go to a login node: `{status}` must work in "
            "the shell of `qlaunch`",
        )
    return skipped("no batch system here: `gan-htvs run` uses this machine alone")


def disk(directory: Path) -> Finding:
    """Check that a directory, which may not exist yet, is writable and has space."""
    directory = directory.absolute()
    while not directory.exists():
        directory = directory.parent
    if not os.access(directory, os.W_OK | os.X_OK):
        return failure(
            f"{directory} is not writable", "choose another directory, or change its permissions"
        )
    free = shutil.disk_usage(directory).free
    what = f"{free / GIB:.1f} GiB free at {directory}"
    if free >= LITTLE_SPACE:
        return ok(what)
    return (failure if free < NO_SPACE else warning)(
        what, "make space, or choose a directory on another disk"
    )
