"""Checks of the GPU, the batch system and the disks of this machine."""

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
"""Time limit of the programs that report the GPU and the queue."""

BATCH_SYSTEMS = (
    ("SLURM", "sbatch", "squeue"),
    ("PBS or Grid Engine", "qsub", "qstat"),
    ("LSF", "bsub", "bjobs"),
)
"""Batch systems and the commands with which FireWorks submits and counts jobs."""


def gpu() -> Finding:
    """Check whether PyTorch can use a GPU."""
    import torch

    query = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    done = run_program(query, ANSWER_SECONDS)
    driver = done.stdout.partition("\n")[0] if done and not done.returncode else ""
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return ok(
            f"{torch.cuda.device_count()} x {properties.name}, "
            f"{properties.total_memory / GIB:.0f} GiB, CUDA {torch.version.cuda}, "
            f"driver {driver or 'unknown'}"
        )
    if driver:
        return warning(
            f"PyTorch {torch.__version__}, built for CUDA {torch.version.cuda}, cannot use the "
            f"GPU with driver {driver}",
            "install the PyTorch build for this driver, see pytorch.org/get-started",
        )
    return ok(f"none; PyTorch {torch.__version__} runs on the CPU")


def batch_system() -> Finding:
    """Check that the batch system can submit and list jobs, as ``qlaunch`` does."""
    for name, submit, status in BATCH_SYSTEMS:
        if not (shutil.which(submit) or shutil.which(status)):
            continue
        done = run_program((status,), ANSWER_SECONDS)
        if shutil.which(submit) is None:
            problem = f"{submit} is not on PATH"
        elif done is None:
            problem = f"{status} is not on PATH, or does not return within {ANSWER_SECONDS:g} s"
        elif done.returncode not in (0, 255 if name == "LSF" else 0):  # LSF without jobs: 255
            problem = f"{status} fails: {done.stderr.strip():.160}"
        else:
            return ok(f"{name}: {submit} and {status} work")
        return warning(
            f"{name}: {problem}",
            f"load the module of the batch system, or use a login node: `{status}` must work in "
            "the shell of `qlaunch`",
        )
    return skipped("no batch system: `gan-htvs run` uses this machine only")


def disk(directory: Path) -> Finding:
    """Check that a directory is writable and has free space; it need not exist."""
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
        what, "free some space, or choose a directory on another disk"
    )
