"""Count the steps of relaxations of the same samples with different optimizers.

    python benchmarks/optimizers.py --samples 20

relaxes samples of the shipped generator with CHGNet to 0.1 eV/A by each of ASE's optimizers that
the prescreen accepts. The final energies show whether an optimizer finds lower minima.
"""

from __future__ import annotations

import argparse
import json
import warnings

import numpy as np
from samples import samples

from gan_htvs.core.processes import run_in_processes
from gan_htvs.core.stages import ProposerName
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.potentials.relaxer import relax

OPTIMIZERS = ("CellAwareBFGS", "BFGS", "LBFGS", "FIRE")
MAX_STEPS = 500
SEED = 11


def main() -> None:
    """Relax, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=20, help="(default: 20)")
    parser.add_argument("--processes", type=int, default=2, help="cores (default: 2)")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    # Every third sample: the first ones have small cells.
    sampled = samples(ProposerName.GAN, 3 * args.samples, seed=SEED)[::3]
    work = {
        (optimizer, i): (
            sample.declashed,
            PotentialSettings(
                name="chgnet", optimizer=optimizer, max_steps=MAX_STEPS, symmetry_tolerances=()
            ),
        )
        for i, sample in enumerate(sampled)
        for optimizer in OPTIMIZERS
    }
    relaxations = dict(run_in_processes(relax, work, args.processes))
    steps, energies = {}, {}
    for optimizer in OPTIMIZERS:
        results = [relaxations[optimizer, i] for i in range(len(sampled))]
        converged = [r for r in results if r is not None and r.relaxed and r.relaxed.converged]
        steps[optimizer] = np.mean([len(r.curve.energies) - 1 for r in results])
        energies[optimizer] = np.array([r.curve.energies[-1] for r in results])
        difference = energies[optimizer] - energies[OPTIMIZERS[0]]
        error = difference.std() / len(results) ** 0.5
        print(
            f"{optimizer:14} {steps[optimizer]:6.1f} steps, "
            f"{np.mean([r.cpu_seconds for r in results]):5.1f} s, "
            f"{len(converged)} of {len(results)} converged, "
            f"{1000 * difference.mean():+.0f} +- {1000 * error:.0f} meV/atom"
        )
    print(
        json.dumps(
            {
                "claim": "steps of a relaxation of a sample, CellAwareBFGS against FIRE",
                "value": round(float(steps["CellAwareBFGS"]), 1),
                "unit": "steps",
                "baseline": round(float(steps["FIRE"]), 1),
                "ratio": round(float(steps["FIRE"] / steps["CellAwareBFGS"]), 2),
            }
        )
    )


if __name__ == "__main__":
    main()
