"""Worker process that runs jobs of a campaign until it is terminated.

Started as ``python -m launchers.local.worker LAUNCHPAD_FILE DIRECTORY OWNER [OWNER ...]``.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from pathlib import Path

import jobflow
from fireworks.core.rocket_launcher import rapidfire

from launchers.launchpad.database import Databases
from launchers.launchpad.jobs import worker_of
from launchers.launchpad.workers import mark_children, stop_at_once, this_worker

IDLE_SECONDS = 2


def main(launchpad_file: Path, directory: Path, owners: list[str]) -> None:
    """Run jobs until the parent process terminates this worker."""
    signal.signal(signal.SIGTERM, stop_at_once)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    mark_children(this_worker())
    threading.Thread(target=_follow_parent, daemon=True).start()
    # Warnings of libraries would hide tracebacks in the log.
    warnings.filterwarnings("ignore")
    databases = Databases.read(launchpad_file)
    jobflow.SETTINGS.JOB_STORE = databases.job_store()
    rapidfire(
        databases.launchpad(),
        worker_of(owners),
        m_dir=str(directory),
        nlaunches=-1,
        sleep_time=IDLE_SECONDS,
        strm_lvl="ERROR",
    )


def _follow_parent() -> None:
    """Stop when the parent ends, even if it was killed: standard input is closed then."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
