"""Measure whether the memory of a prescreen grows with the number of relaxations.

    python benchmarks/memory.py --samples 310

runs raw samples of the shipped generator through overlap removal and prescreen, without a second
potential, and measures the unshared memory of all processes (unique set size) after each
relaxation. One row is printed for each tenth of the batch. The maxima of both halves are compared.
"""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
from pipelines import SEED, proposed, rules_of
from samples import samples

from gan_htvs.core.stages import ProposerName

PARTS = 10


def main() -> None:
    """Relax, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=155, help="default: 155")
    parser.add_argument("--processes", type=int, default=2, help="cores (default: 2)")
    parser.add_argument("--journal", type=Path, default=Path("prescreen-jobs"))
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    args.journal.mkdir(parents=True, exist_ok=True)
    rules = replace(rules_of(args.journal, args.processes), confirming=None)
    sampled = samples(ProposerName.GAN, args.samples, seed=SEED)
    sizes: list[float] = []
    rules.run(
        proposed("generator", sampled),
        n_processes=args.processes,
        on_progress=lambda *_: sizes.append(unique_memory()),
    )
    for part in np.array_split(np.arange(len(sizes)), min(PARTS, len(sizes))):
        memory = np.array(sizes)[part]
        print(
            f"{part[0] + 1:4} to {part[-1] + 1:4}: {memory.mean():6.0f} MB, "
            f"at most {memory.max():.0f}"
        )
    half = len(sizes) // 2
    first, second = max(sizes[:half]), max(sizes[half:])
    claim = {
        "claim": f"memory of the processes of a batch, second half of {len(sizes)} relaxations "
        "against the first",
        "value": round(second),
        "unit": "MB",
        "baseline": round(first),
        "ratio": round(second / first, 3),
    }
    print(json.dumps(claim))


def unique_memory() -> float:
    """Return the unique set size of this process and its children, MB."""
    total = 0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            total += process.memory_full_info().uss
        except psutil.Error:  # it has ended
            continue
    return total / 1e6


if __name__ == "__main__":
    main()
