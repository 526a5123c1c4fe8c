"""``python -m gan_htvs.rehearsal``: VASP in the current folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gan_htvs.rehearsal.labels import NOTICE


def main() -> int:
    """Run in the current folder on one core.

    The notice comes before the imports that take seconds: custodian takes silence for a hang.
    """
    print(f" {NOTICE}", flush=True)  # noqa: T201 - this is the standard output of VASP
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from gan_htvs.rehearsal.program import run  # noqa: PLC0415 - threads are counted at import

    return run(Path.cwd())


if __name__ == "__main__":
    sys.exit(main())
