"""Measure the processor time of the most frequent commands.

    python benchmarks/command_line.py

``gan-htvs --help``, ``candidates``, ``show`` and ``status`` run in separate processes, with
an embedded database with 1,000 synthetic candidates that is already running. The baseline imports
pymatgen's Structure and PyTorch, which these commands do not need.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from chains import CAMPAIGN, free_port, write_launchpad_file
from query import synthetic

from launchers.launchpad.database import open_databases
from launchers.launchpad.registry import register

REPEATS = 3
BASELINE = [sys.executable, "-c", "import torch; from pymatgen.core import Structure"]


def main() -> None:
    """Measure, and print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=1000, help="default: 1,000")
    options = parser.parse_args()
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        file = write_launchpad_file(Path(folder), "command_line", free_port())
        with open_databases(file) as databases:
            register(CAMPAIGN, databases)
            with databases.client() as client:
                collection = client[databases.settings.name]["candidates"]
                for chunk in synthetic(options.candidates):
                    collection.insert_many(chunk)
            launchpad = ["--launchpad", str(file)]
            times = {
                name: processor_seconds([sys.executable, "-m", "launchers.cli.main", *arguments])
                for name, arguments in {
                    "--help": ["--help"],
                    "candidates": ["candidates", *launchpad],
                    "show": ["show", f"{options.candidates // 2:016x}", *launchpad],
                    "status": ["status", *launchpad],
                }.items()
            }
    baseline = processor_seconds(BASELINE)
    for name, seconds in (*times.items(), ("baseline: import", baseline)):
        print(f"  {name:18s} {seconds:6.2f} s of processor time")
    slowest = max(times.values())
    print(
        json.dumps(
            {
                "claim": "processor time of the slowest of gan-htvs --help, candidates, show and "
                "status, against the import of PyTorch and pymatgen",
                "value": round(slowest, 2),
                "unit": "s",
                "baseline": round(baseline, 2),
                "ratio": round(baseline / slowest, 2),
            }
        )
    )


def processor_seconds(command: list[str]) -> float:
    """Return the median processor time of a command, s."""
    times = []
    for _ in range(REPEATS):
        before = os.times()
        status = subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode  # noqa: S603 - own commands
        if status > 1:  # ``status`` ends with 1 if a campaign needs attention
            raise SystemExit(f"{' '.join(command)} failed")
        after = os.times()
        times.append(
            after.children_user
            - before.children_user
            + after.children_system
            - before.children_system
        )
    return statistics.median(times)


if __name__ == "__main__":
    main()
