"""How many steps a relaxation takes, by optimizer, from the same declashed samples.

    python benchmarks/optimizers.py --samples 20

relaxes samples of the shipped generator with CHGNet to 0.1 eV/A by each of ASE's optimizers that
the prescreen knows. Energies say whether one ends in better minima than another.
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
    # Every third composition, or the small cells would come first.
    found = samples(ProposerName.GAN, 3 * args.samples, seed=SEED)[::3]
    work = {
        (optimizer, i): (
            each.declashed,
            PotentialSettings(name="chgnet", optimizer=optimizer, max_steps=MAX_STEPS),
        )
        for i, each in enumerate(found)
        for optimizer in OPTIMIZERS
    }
    relaxations = dict(run_in_processes(relax, work, args.processes))
    steps, energies = {}, {}
    for optimizer in OPTIMIZERS:
        own = [relaxations[optimizer, i] for i in range(len(found))]
        converged = [d for d in own if d is not None and d.relaxed and d.relaxed.converged]
        steps[optimizer] = np.mean([len(d.curve.energies) - 1 for d in own])
        energies[optimizer] = np.array([d.curve.energies[-1] for d in own])
        lower = energies[optimizer] - energies[OPTIMIZERS[0]]
        print(
            f"{optimizer:14} {steps[optimizer]:6.1f} steps, "
            f"{np.mean([d.cpu_seconds for d in own]):5.1f} s, {len(converged)} of {len(own)} "
            f"converged, {1000 * lower.mean():+.0f} +- {1000 * lower.std() / len(own) ** 0.5:.0f} "
            "meV/atom"
        )
    print(
        json.dumps(
            {
                "claim": "steps of a relaxation of a declashed sample, CellAwareBFGS against FIRE",
                "value": round(float(steps["CellAwareBFGS"]), 1),
                "unit": "steps",
                "baseline": round(float(steps["FIRE"]), 1),
                "ratio": round(float(steps["FIRE"] / steps["CellAwareBFGS"]), 2),
            }
        )
    )


if __name__ == "__main__":
    main()
