"""Measure the cost of a relaxation step in a batch: the network, and the remaining work.

    python benchmarks/batches.py --structures 12

relaxes perturbed MgO cells of 16 atoms for a few steps, as one batch and one by one, with one
thread. If the network runs on a GPU, graphs and optimizer remain on one core. The time one by one,
divided by the time of graphs and optimizer, is the largest number of cores that a GPU can replace.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

import torch
from pymatgen.core import Lattice, Structure

from gan_htvs.potentials.batched_relaxation import relax_batched
from gan_htvs.potentials.batches import Batches, batches_of
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.potentials.relaxer import Work, relax

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ase import Atoms

STEPS = 6
POTENTIALS = ("chgnet", "sevennet-0")


class Timed:
    """Calculator of a potential that measures its processor time, s."""

    def __init__(self, calculator: Any) -> None:
        self.calculator = calculator
        self.in_graphs = self.in_network = 0.0

    def graph(self, atoms: Atoms) -> Any:
        """Return the graph of a structure."""
        seconds, graph = timed(lambda: self.calculator.graph(atoms))
        self.in_graphs += seconds
        return graph

    def size(self, graph: Any) -> int:
        """Return the size of a graph."""
        return int(self.calculator.size(graph))

    def predict(self, graphs: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the predictions for a batch of graphs."""
        seconds, results = timed(lambda: self.calculator.predict(graphs))
        self.in_network += seconds
        return results


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the processor time of a function, s, and its result."""
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


def measure(name: str, starts: list[Structure]) -> tuple[float, float, float, float]:
    """Return the times of one potential for all steps, s: one by one, network, graphs, rest."""
    settings = PotentialSettings(name=name, fmax=1e-9, max_steps=STEPS)
    work = {str(i): Work(start, settings) for i, start in enumerate(starts)}
    potential = batches_of(name, "cpu")
    # The first call loads the model.
    relax(starts[0], settings)
    list(relax_batched({"0": work["0"]}, potential))
    timer = Timed(potential.calculator)
    at_once, _ = timed(lambda: list(relax_batched(work, Batches(timer))))
    one_by_one, _ = timed(lambda: [relax(start, settings) for start in starts])
    rest = at_once - timer.in_graphs - timer.in_network
    return one_by_one, timer.in_network, timer.in_graphs, rest


def main() -> None:
    """Print the table of docs/gpu-relaxation.md and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--structures", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    magnesia = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.3), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    starts = [(magnesia * (2, 1, 1)).perturb(0.1, seed=seed) for seed in range(options.structures)]
    ms_per_step = 1e3 / (len(starts) * (STEPS + 1))
    print("| potential | one by one | network, batch | graphs | optimizer, geometry | cores |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in POTENTIALS:
        alone, network, graphs, rest = (seconds * ms_per_step for seconds in measure(name, starts))
        cores = alone / (graphs + rest)
        print(f"| {name} | {alone:.0f} | {network:.0f} | {graphs:.1f} | {rest:.1f} | {cores:.0f} |")
    claim = {
        "claim": f"processor time of a step of 16 atoms outside of the network, {name}, "
        "against that of the whole step",
        "value": round(graphs + rest, 2),
        "unit": "ms",
        "baseline": round(alone, 1),
        "ratio": round(cores, 1),
    }
    print(json.dumps(claim))


if __name__ == "__main__":
    main()
