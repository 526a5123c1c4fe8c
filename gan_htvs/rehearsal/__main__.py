"""``python -m gan_htvs.rehearsal``: VASP in the current folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Threads are counted when torch starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from gan_htvs.rehearsal.program import run

if __name__ == "__main__":
    sys.exit(run(Path.cwd()))
