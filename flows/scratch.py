"""Files that jobs keep between restarts: states of trainings and finished relaxations."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

SCRATCH_VARIABLE = "GAN_HTVS_SCRATCH"
"""Environment variable: directory of the states that interrupted jobs resume from."""

LIFETIME = timedelta(days=30)
"""Age at which a state is removed. A job cannot remove its state itself: when it returns, its
output is not stored yet."""


def scratch_file(name: str) -> Path | None:
    """Return the path of the state of a job, and remove old states of the same kind.

    Parameters
    ----------
    name
        Name of the file: the kind, a hyphen, a hash of what is computed, and a suffix.

    Returns
    -------
    A path in an existing directory; None if the directory is not writable: the job runs without a
    state.
    """
    directory = Path(os.environ.get(SCRATCH_VARIABLE) or Path.home() / ".cache" / "gan-htvs")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(directory, os.W_OK):
        return None
    kind, _, _ = name.partition("-")
    for state in directory.glob(f"{kind}-*"):
        with suppress(OSError):
            status = state.stat()
            is_old = time.time() - status.st_mtime > LIFETIME.total_seconds()
            if is_old and status.st_uid == os.getuid():
                state.unlink()
    return directory / name
