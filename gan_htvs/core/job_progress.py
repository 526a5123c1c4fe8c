"""Progress of a running job, as a file in its directory."""

from __future__ import annotations

import json
from pathlib import Path

from gan_htvs.core.files import write_atomically

PROGRESS_FILE = Path("progress.json")


def write_job_progress(done: int, total: int) -> None:
    """Write the number of finished items and the total to the current directory."""
    write_atomically(PROGRESS_FILE, json.dumps({"done": done, "total": total}).encode())


def read_job_progress(folder: Path) -> tuple[int, int] | None:
    """Read the number of finished items and the total of a job; None if it has not written them."""
    try:
        document = json.loads((folder / PROGRESS_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return int(document["done"]), int(document["total"])
