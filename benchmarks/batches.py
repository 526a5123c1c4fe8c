"""What a step of a structure costs in a batch: the network, and what a GPU would have to wait for.

    python benchmarks/batches.py --structures 12

relaxes shaken MgO cells of 16 atoms for a few steps, all at once as on a GPU but on this processor
(one thread), and one by one. Graphs and optimizer stay on the processor when the network goes to a
GPU, in one process: what one by one takes, divided by these, is the number of cores that a GPU can
replace at most.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from pymatgen.core import Lattice, Structure

from gan_htvs.batches import batches_of
from gan_htvs.descent import descend
from gan_htvs.engines import DescentSettings
from gan_htvs.prescreen import batched

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 6


class Stopwatch:
    """Counts the processor time of a function, s."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.seconds = 0.0

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        began = time.process_time()
        result = self.function(*arguments)
        self.seconds += time.process_time() - began
        return result


def row(name: str, starts: list[Structure]) -> str:
    """Measure one potential."""
    settings = DescentSettings(name=name, fmax=1e-9, max_steps=STEPS)
    work = {str(i): (start, settings, None, False) for i, start in enumerate(starts)}
    potential = batches_of(name, "cpu")
    one_by_one = Stopwatch(descend)
    at_once = Stopwatch(lambda work: list(batched.relax_batched(work, "cpu")))
    with patch.object(batched, "batches_of", lambda *_: potential):
        # The first of each loads and compiles.
        descend(starts[0], settings)
        at_once({"0": work["0"]})
        at_once.seconds = 0.0
        graphs, network = Stopwatch(potential.graph), Stopwatch(potential.results)
        with patch.multiple(potential, graph=graphs, results=network):
            at_once(work)
    for start in starts:
        one_by_one(start, settings)
    rest = at_once.seconds - graphs.seconds - network.seconds
    each = 1e3 / (len(starts) * (STEPS + 1))
    return (
        f"| {name} | {one_by_one.seconds * each:.0f} | {network.seconds * each:.0f} "
        f"| {graphs.seconds * each:.1f} | {rest * each:.1f} "
        f"| {one_by_one.seconds / (graphs.seconds + rest):.0f} |"
    )


def main() -> None:
    """Print the table of docs/gpu-relaxation.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--structures", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    magnesia = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.3), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    starts = [(magnesia * (2, 1, 1)).perturb(0.1) for _ in range(options.structures)]
    print("| potential | one by one | network, batch | graphs | optimizer, geometry | cores |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in ("chgnet", "sevennet-0"):
        print(row(name, starts))


if __name__ == "__main__":
    main()
