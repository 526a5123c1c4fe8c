"""Run the stand-in for VASP in the current folder: ``python -m launchers.rehearsal``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from launchers.rehearsal.labels import NOTICE


def main() -> int:
    """Run the stand-in in the current folder on one core.

    The notice is printed before slow imports, because custodian interprets missing output as a
    frozen job.
    """
    print(f" {NOTICE}", flush=True)  # noqa: T201 - this is the standard output of VASP
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from launchers.rehearsal.program import run  # noqa: PLC0415 - torch reads OMP_NUM_THREADS

    return run(Path.cwd())


if __name__ == "__main__":
    sys.exit(main())
