"""Which features work on this machine, and what cures those that do not."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class Feature:
    """Something the package can do, and what keeps it from doing so here, if anything."""

    name: str
    obstacle: str | None


def diagnose() -> list[Feature]:
    """Examine every optional feature."""
    from flows.engines.gpaw import availability
    from launchers.embedded import EXECUTABLE

    server = Path(sys.executable).with_name(EXECUTABLE).exists() or shutil.which(EXECUTABLE)
    local = "pip install 'gan-htvs[local]'"
    return [
        Feature("CHGNet energies", None if find_spec("chgnet") else f"not installed; {local}"),
        Feature("embedded database", None if server else f"not installed; {local}"),
        Feature("GPAW band gaps (HSE06@PBE+U)", availability()),
    ]
